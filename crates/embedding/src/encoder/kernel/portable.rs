//! What every other kernel is tested against, and what runs where there is none: plain Rust.

use super::{ByteProduct, FloatProduct, Kernel, Output, PANEL, each_tile, elementwise};

pub(super) fn kernel() -> Kernel {
    Kernel {
        name: "portable",
        floats,
        bytes,
        gelu: elementwise::gelu::<false>,
        exponentials: elementwise::exponentials::<false>,
        add_and_normalise: |row, change, norm, epsilon| {
            elementwise::add_and_normalise::<false>(row, change, &norm.gain, &norm.bias, epsilon);
        },
        quantise: elementwise::quantise::<false>,
        mix: |rows, mixed| {
            for (row, mixed) in rows.iter().zip(mixed) {
                *mixed = *row;
                elementwise::mix(mixed, 1);
            }
        },
    }
}

fn floats(product: &FloatProduct<'_>, output: Output<'_>) {
    let FloatProduct { rows, stride, count, panels, scale, bias } = *product;
    each_tile((count, panels.columns), (16, 1), output, |row, _, panel, out, _| {
        let mut sums = [0.0; PANEL];
        for (value, line) in rows[row * stride..].iter().zip(panels.panel(panel)) {
            for (sum, weight) in sums.iter_mut().zip(&line.0) {
                *sum += value * weight;
            }
        }
        // SAFETY: `each_tile` gives room for a panel's numbers.
        let out = unsafe { std::slice::from_raw_parts_mut(out, PANEL) };
        for ((out, sum), bias) in out.iter_mut().zip(sums).zip(&bias[panel * PANEL..]) {
            *out = sum * scale + bias;
        }
    });
}

fn bytes(product: &ByteProduct<'_>, output: Output<'_>) {
    let ByteProduct { rows, count, panels, bias } = *product;
    each_tile((count, panels.columns), (16, 1), output, |row, _, panel, out, _| {
        let mut sums = [0i32; PANEL];
        let (values, _) = rows.bytes[row * rows.stride..].as_chunks::<4>();
        for (values, quad) in values.iter().zip(panels.panel(panel)) {
            for (sum, weights) in sums.iter_mut().zip(quad.0.as_chunks::<4>().0) {
                for (value, weight) in values.iter().zip(weights) {
                    *sum += i32::from(*value) * i32::from(*weight);
                }
            }
        }
        // SAFETY: `each_tile` gives room for a panel's numbers.
        let out = unsafe { std::slice::from_raw_parts_mut(out, PANEL) };
        let (scale, zero) = (rows.scales[row], rows.zeros[row]);
        for (column, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
            let column = panel * PANEL + column;
            let sum = sum as f32 - zero * panels.sums[column];
            *out = sum * panels.scales[column] * scale + bias[column];
        }
    });
}
