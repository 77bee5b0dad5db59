use super::*;

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random.f32() * 2.0 - 1.0).collect()
}

/// A product and what plain arithmetic in 64 bits makes of it.
fn float_product(kernel: &Kernel, rows: usize, depth: usize, columns: usize) -> (Vec<f32>, Vec<f64>) {
    let (left, right) = (numbers(1, rows * depth), numbers(2, columns * depth));
    let bias = numbers(3, columns.next_multiple_of(PANEL));
    let panels = FloatPanels::pack(&right, depth);
    let mut out = vec![f32::NAN; rows * columns];
    let product = FloatProduct { rows: &left, stride: depth, count: rows, panels: &panels, scale: 0.5, bias: &bias };
    kernel.multiply(&product, Output { rows: &mut out, stride: columns });
    let wanted = (0..rows * columns).map(|at| {
        let (row, column) = (at / columns, at % columns);
        let products = left[row * depth..][..depth].iter().zip(&right[column * depth..][..depth]);
        products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() * 0.5 + f64::from(bias[column])
    });
    (out, wanted.collect())
}

/// Shapes with every remainder of rows and columns, and the depth of every model's layer.
fn shapes() -> Vec<(usize, usize, usize)> {
    let mut shapes: Vec<_> = (1..=35).map(|rows| (rows, 64, 64)).collect();
    shapes.extend((1..=65).map(|columns| (3, 32, columns)));
    shapes.extend([(1, 1, 1), (5, 8, 8), (17, 26, 312), (70, 312, 26), (33, 384, 96), (9, 1536, 40)]);
    shapes
}

#[test]
fn products_of_floats_are_right() {
    for kernel in available() {
        for (rows, depth, columns) in shapes() {
            let (out, wanted) = float_product(&kernel, rows, depth, columns);
            for (got, wanted) in out.iter().zip(wanted) {
                let error = (f64::from(*got) - wanted).abs();
                assert!(
                    error < 2e-6 * (depth as f64).max(10.0),
                    "{}, {rows} x {depth} x {columns}: {got} is not {wanted}",
                    kernel.name
                );
            }
        }
    }
}

#[test]
fn products_of_bytes_are_the_same_integers_everywhere() {
    let portable = portable::kernel();
    for kernel in available() {
        for (rows, depth, columns) in shapes() {
            // The extremes of both, which overflow 16 bits and saturate where sums are kept in them.
            let mut left: Vec<f32> = numbers(1, rows * depth).iter().map(|value| value.signum()).collect();
            left[0] = 0.3;
            let right: Vec<f32> = numbers(2, columns * depth).iter().map(|value| value.signum()).collect();
            let bias = vec![0.0; columns.next_multiple_of(PANEL)];
            let panels = BytePanels::pack(best(), &right, depth);
            let mut bytes = ByteRows::default();
            bytes.fill(&portable, &left, depth);
            let product = |kernel: &Kernel| {
                let mut out = vec![f32::NAN; rows * columns];
                kernel.multiply_bytes(&bytes, &panels, &bias, Output { rows: &mut out, stride: columns });
                out
            };
            for (got, wanted) in product(&kernel).iter().zip(product(&portable)) {
                // The sums are equal; making numbers of them may round once more or less. One more or less in a sum would
                // be 6e-5.
                let error = (got - wanted).abs();
                assert!(
                    error <= 3e-5 + 1e-6 * wanted.abs(),
                    "{}, {rows} x {depth} x {columns}: {got} is not {wanted}",
                    kernel.name
                );
            }
        }
    }
}

#[test]
fn products_of_bytes_are_close_to_those_of_floats() {
    for kernel in available() {
        let (rows, depth, columns) = (40, 384, 70);
        let (left, right) = (numbers(1, rows * depth), numbers(2, columns * depth));
        let bias = numbers(3, columns.next_multiple_of(PANEL));
        let mut bytes = ByteRows::default();
        bytes.fill(&kernel, &left, depth);
        let mut out = vec![f32::NAN; rows * columns];
        let panels = BytePanels::pack(best(), &right, depth);
        kernel.multiply_bytes(&bytes, &panels, &bias, Output { rows: &mut out, stride: columns });
        for (at, got) in out.iter().enumerate() {
            let (row, column) = (at / columns, at % columns);
            let products = left[row * depth..][..depth].iter().zip(&right[column * depth..][..depth]);
            let wanted = products.map(|(a, b)| a * b).sum::<f32>() + bias[column];
            // Mixed, evenly spread numbers become normal ones, of which 255 steps are some 7 deviations: each factor is off
            // by 0.8 % of one, the sum of 384 by some 0.13.
            assert!((got - wanted).abs() < 0.6, "{}: {got} is not {wanted}", kernel.name);
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    for kernel in available() {
        let (rows, depth, columns) = (33, 96, 70);
        let left = numbers(1, rows * depth);
        let (floats, bytes) = (numbers(2, columns * depth), numbers(2, columns * depth));
        let (floats, bytes) = (FloatPanels::pack(&floats, depth), BytePanels::pack(best(), &bytes, depth));
        let bias = numbers(3, columns.next_multiple_of(PANEL));
        let products = |left: &[f32]| {
            let count = left.len() / depth;
            let mut out = [vec![f32::NAN; count * columns], vec![f32::NAN; count * columns]];
            let product = FloatProduct { rows: left, stride: depth, count, panels: &floats, scale: 0.5, bias: &bias };
            kernel.multiply(&product, Output { rows: &mut out[0], stride: columns });
            let mut rows = ByteRows::default();
            rows.fill(&kernel, left, depth);
            kernel.multiply_bytes(&rows, &bytes, &bias, Output { rows: &mut out[1], stride: columns });
            out
        };
        let many = products(&left);
        for row in 0..rows {
            let alone = products(&left[row * depth..][..depth]);
            for (alone, many) in alone.iter().zip(&many) {
                assert_eq!(*alone, many[row * columns..][..columns], "{}, row {row}", kernel.name);
            }
        }
    }
}

#[test]
fn nothing_is_written_beyond_the_columns() {
    for kernel in available() {
        let (rows, depth, columns, stride) = (15, 64, 40, 48);
        let panels = FloatPanels::pack(&numbers(1, columns * depth), depth);
        let left = numbers(2, rows * depth);
        let mut out = vec![7.0; rows * stride];
        let bias = vec![0.0; columns.next_multiple_of(PANEL)];
        let product =
            FloatProduct { rows: &left, stride: depth, count: rows, panels: &panels, scale: 1.0, bias: &bias };
        kernel.multiply(&product, Output { rows: &mut out, stride });
        for row in out.chunks_exact(stride) {
            assert!(row[columns..].iter().all(|value| *value == 7.0), "{}", kernel.name);
            assert!(row[..columns].iter().all(|value| *value != 7.0), "{}", kernel.name);
        }
    }
}

#[test]
#[should_panic(expected = "rows are missing")]
fn too_few_rows_are_refused() {
    let panels = FloatPanels::pack(&numbers(1, 64), 8);
    let (left, bias, mut out) = (numbers(2, 15), vec![0.0; 32], vec![0.0; 16]);
    let product = FloatProduct { rows: &left, stride: 8, count: 2, panels: &panels, scale: 1.0, bias: &bias };
    best().multiply(&product, Output { rows: &mut out, stride: 8 });
}

/// Φ by Simpson's rule over the normal density, in 64 bits.
fn normal_distribution(x: f64) -> f64 {
    const STEPS: usize = 2_000;
    let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let step = x / STEPS as f64;
    let weight = |at: usize| match at {
        0 | STEPS => 1.0,
        at if at % 2 == 1 => 4.0,
        _ => 2.0,
    };
    0.5 + (0..=STEPS).map(|at| weight(at) * density(at as f64 * step)).sum::<f64>() * step / 3.0
}

#[test]
#[should_panic(expected = "no room")]
fn a_short_output_is_refused() {
    let panels = FloatPanels::pack(&numbers(1, 64), 8);
    let (left, bias, mut out) = (numbers(2, 16), vec![0.0; 32], vec![0.0; 15]);
    let product = FloatProduct { rows: &left, stride: 8, count: 2, panels: &panels, scale: 1.0, bias: &bias };
    best().multiply(&product, Output { rows: &mut out, stride: 8 });
}

#[test]
#[should_panic(expected = "not as wide")]
fn bytes_of_another_width_are_refused() {
    let mut rows = ByteRows::default();
    rows.fill(best(), &numbers(2, 16), 16);
    let (panels, bias) = (BytePanels::pack(best(), &numbers(1, 8 * 65), 65), vec![0.0; 32]);
    best().multiply_bytes(&rows, &panels, &bias, Output { rows: &mut [0.0; 8], stride: 8 });
}

#[test]
fn lengths_that_overflow_are_refused() {
    assert!(!holds(100, 3, 1 << 63, 8));
    assert!(holds(100, 3, 46, 8) && !holds(99, 3, 46, 8));
}

#[test]
fn the_activation_is_right() {
    let numbers: Vec<f32> = (-700..=700).map(|x| x as f32 / 100.0).chain([-1e4, -30.0, 30.0, 1e4]).collect();
    for kernel in available() {
        let mut row = numbers.clone();
        kernel.gelu(&mut row);
        for (got, x) in row.iter().zip(&numbers) {
            let wanted = f64::from(*x)
                * if x.abs() < 10.0 { normal_distribution((*x).into()) } else { x.signum().max(0.0).into() };
            let error = (f64::from(*got) - wanted).abs();
            assert!(error <= 3e-7 * f64::from(x.abs().max(0.1)), "{}: {got} of {x} is not {wanted}", kernel.name);
        }
    }
}

#[test]
fn exponentials_are_right_for_every_length() {
    for kernel in available() {
        for length in [1, 2, 15, 16, 17, 64, 255, 512] {
            let scores: Vec<f32> = numbers(4, length).iter().map(|value| value * 40.0).collect();
            let largest = scores.iter().copied().fold(f32::MIN, f32::max);
            let weights: Vec<f64> = scores.iter().map(|score| f64::from(score - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mut row = scores.clone();
            let sum = kernel.exponentials(&mut row);
            assert!((f64::from(sum) / total - 1.0).abs() < 1e-5, "{}, {length}: {sum} is not {total}", kernel.name);
            for (got, wanted) in row.iter().zip(weights) {
                assert!((f64::from(*got) - wanted).abs() < 1e-6, "{}, {length}: {got} is not {wanted}", kernel.name);
            }
        }
    }
}

#[test]
fn normalised_rows_have_mean_0_and_deviation_1() {
    for kernel in available() {
        for width in [8, 32, 312, 384] {
            let norm = Norm { gain: vec![1.0; width], bias: vec![0.0; width] };
            let mut rows = numbers(5, 3 * width);
            let changes = numbers(6, 3 * width);
            kernel.add_and_normalise(&mut rows, &changes, &norm, 1e-12);
            for row in rows.chunks_exact(width) {
                let mean = row.iter().sum::<f32>() / width as f32;
                let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / width as f32;
                assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4, "{}: {mean}, {variance}", kernel.name);
            }
        }
    }
}

#[test]
fn bytes_stand_for_their_numbers() {
    for kernel in available() {
        for row in [numbers(7, 100), vec![3.0; 20], vec![-3.0; 20], vec![0.0; 20], vec![1e-30; 20], vec![1e30, -1e30]] {
            let mut bytes = vec![0; row.len()];
            let (scale, zero) = (kernel.quantise)(&row, &mut bytes);
            for (value, byte) in row.iter().zip(bytes) {
                let stands_for = scale * (f32::from(byte) - zero);
                assert!((stands_for - value).abs() <= scale * 0.51 + 1e-35, "{}: {stands_for}, {value}", kernel.name);
            }
        }
    }
}

#[test]
fn scores_that_are_not_finite_give_no_weights() {
    for kernel in available() {
        for bad in [f32::INFINITY, f32::NAN] {
            let mut row = vec![1.0; 40];
            row[7] = bad;
            kernel.exponentials(&mut row);
            assert!(row.iter().any(|value| value.is_nan()), "{}: {bad} is lost", kernel.name);
        }
    }
}

#[test]
fn what_is_not_finite_stays_visible() {
    for kernel in available() {
        let panels = BytePanels::pack(best(), &numbers(1, 64 * 32), 64);
        let bias = vec![0.0; 32];
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let mut row = numbers(2, 64);
            row[13] = bad;
            let mut bytes = ByteRows::default();
            bytes.fill(&kernel, &row, 64);
            let mut out = vec![0.0; 32];
            kernel.multiply_bytes(&bytes, &panels, &bias, Output { rows: &mut out, stride: 32 });
            assert!(out.iter().any(|value| !value.is_finite()), "{}: {bad} is lost", kernel.name);
        }
    }
}

#[test]
fn mixing_keeps_products_and_is_the_same_everywhere() {
    for width in [1, 6, 32, 64, 312, 384, 1536] {
        let (row, weights) = (numbers(1, width), numbers(2, width));
        let mix = |kernel: &Kernel, row: &[f32]| {
            let mut mixed = vec![f32::NAN; width];
            kernel.mix(row, &mut mixed);
            mixed
        };
        let product = |row: &[f32], weights: &[f32]| row.iter().zip(weights).map(|(a, b)| a * b).sum::<f32>();
        let expected = product(&row, &weights) * mixed_inputs(width) as f32;
        let portable = mix(&portable::kernel(), &row);
        for kernel in available() {
            let mixed = mix(&kernel, &row);
            assert_eq!(mixed, portable, "{}, {width}", kernel.name);
            let got = product(&mixed, &mix(&kernel, &weights));
            assert!((got - expected).abs() < 1e-3 * (width as f32), "{}, {width}: {got}, {expected}", kernel.name);
        }
    }
}

#[test]
fn one_number_that_stands_out_costs_the_others_little() {
    for kernel in available() {
        let mut row = numbers(1, 384);
        row[77] = 100.0;
        let weights = numbers(2, 384 * 64);
        let (panels, bias) = (BytePanels::pack(&kernel, &weights, 384), vec![0.0; 64]);
        let mut bytes = ByteRows::default();
        bytes.fill(&kernel, &row, 384);
        let mut out = vec![0.0; 64];
        kernel.multiply_bytes(&bytes, &panels, &bias, Output { rows: &mut out, stride: 64 });
        let squares: f32 = out
            .iter()
            .zip(weights.chunks_exact(384))
            .map(|(got, weights)| {
                let wanted: f32 = row.iter().zip(weights).map(|(a, b)| a * b).sum();
                (got - wanted).powi(2)
            })
            .sum();
        // Not mixed, a byte would stand for 0.4, which is off by 0.11 on average, and a sum of 384 by some 1.3. Mixed, what
        // is left is mostly the weight that 100 meets.
        let deviation = (squares / 64.0).sqrt();
        assert!(deviation < 0.9, "{}: {deviation}", kernel.name);
    }
}
