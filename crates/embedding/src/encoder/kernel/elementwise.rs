//! What is done number by number: the activation, softmax, normalisation, quantising.
//!
//! Written as plain loops over [`LANES`] independent sums, and compiled anew for every instruction set that asks for it
//! with [`elementwise!`], so that the compiler makes vectors of them. `FUSED` says whether the instruction set multiplies
//! and adds in one step; where it does not, asking for it would call a library function for every number.

/// The functions of this module for an instruction set that multiplies and adds in one step.
#[cfg(target_arch = "x86_64")]
macro_rules! elementwise {
    ($features:literal) => {
        #[target_feature(enable = $features)]
        fn gelu(row: &mut [f32]) {
            elementwise::gelu::<true>(row);
        }

        #[target_feature(enable = $features)]
        fn exponentials(row: &mut [f32]) -> f32 {
            elementwise::exponentials::<true>(row)
        }

        #[target_feature(enable = $features)]
        fn add_and_normalise(row: &mut [f32], change: &[f32], norm: &Norm, epsilon: f32) {
            elementwise::add_and_normalise::<true>(row, change, &norm.gain, &norm.bias, epsilon);
        }

        #[target_feature(enable = $features)]
        fn quantise(row: &[f32], bytes: &mut [u8]) -> (f32, f32) {
            elementwise::quantise::<true>(row, bytes)
        }
    };
}

/// Sums that do not wait for each other.
const LANES: usize = 32;

#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Folds a row into one number, in an order that depends on nothing but the row's length.
#[inline(always)]
fn fold(row: &[f32], start: f32, step: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = step(lanes[lane], chunk[lane]);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, *value);
    }
    join_lanes(lanes, join)
}

/// Folds the lanes by halves, each step of which is one instruction or two. One after the other they would take longer
/// than a short row.
#[inline(always)]
fn join_lanes(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

#[inline(always)]
fn sum(a: f32, b: f32) -> f32 {
    a + b
}

/// e to the power of `x`, for `x` up to 88; the relative error is below 2e-7. Below -87 it is next to nothing.
///
/// Splits off the power of two (Cody and Waite 1980) and takes a polynomial of the rest, whose coefficients are the
/// Cephes library's for `expf`.
#[inline(always)]
fn exp<const FUSED: bool>(x: f32) -> f32 {
    /// Added to a small number, it leaves the nearest integer in the lowest bits.
    const ROUNDER: f32 = 12_582_912.0;
    // Not `f32::max`, which would make a number of what is none.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = multiply_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUNDER);
    let power = shifted - ROUNDER;
    let rest = multiply_add::<FUSED>(power, -355.0 / 512.0, x);
    let rest = multiply_add::<FUSED>(power, 2.121_944_4e-4, rest);
    let mut value = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        value = multiply_add::<FUSED>(value, rest, coefficient);
    }
    let value = multiply_add::<FUSED>(value, rest * rest, rest + 1.0);
    f32::from_bits(value.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// `x · Φ(x)` of every number (Hendrycks and Gimpel 2016).
///
/// Φ is ½ + x·q(x²), with the polynomial q that fits best at 400 Chebyshev nodes up to [`GELU_END`]; there its error is
/// below 1.2e-7, and beyond, Φ stays what it is at the end, 1.9e-8 from 0 or 1. Neither a division nor an exponential.
#[inline(always)]
pub(super) fn gelu<const FUSED: bool>(row: &mut [f32]) {
    for value in row {
        let x = *value;
        let within = if x > GELU_END { GELU_END } else { x };
        let within = if within < -GELU_END { -GELU_END } else { within };
        let place = multiply_add::<FUSED>(within * within, 2.0 / (GELU_END * GELU_END), -1.0);
        let mut quotient = GELU[0];
        for coefficient in &GELU[1..] {
            quotient = multiply_add::<FUSED>(quotient, place, *coefficient);
        }
        *value = x * multiply_add::<FUSED>(within, quotient, 0.5);
    }
}

const GELU_END: f32 = 5.5;

/// The coefficients of (Φ(x) − ½) / x in 2x²/[`GELU_END`]² − 1, the highest power first.
const GELU: [f32; 16] = [
    -0.000_226_636_33,
    0.000_626_716_65,
    -0.000_563_394_57,
    0.000_735_846_46,
    -0.002_370_882_3,
    0.004_601_799_4,
    -0.006_853_628_4,
    0.010_240_318,
    -0.014_986_418,
    0.020_360_59,
    -0.026_050_681,
    0.032_070_857,
    -0.038_792_584,
    0.047_737_595,
    -0.064_172_34,
    0.128_551_93,
];

/// Makes of each score e to the power of its distance to the largest, and says their sum: softmax but for the division,
/// which is cheaper for what the weights are multiplied with.
#[inline(always)]
pub(super) fn exponentials<const FUSED: bool>(row: &mut [f32]) -> f32 {
    let largest = fold(row, f32::NEG_INFINITY, larger, larger);
    let mut sums = [0.0; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = exp::<FUSED>(chunk[lane] - largest);
            sums[lane] += chunk[lane];
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *value = exp::<FUSED>(*value - largest);
        *sum += *value;
    }
    join_lanes(sums, sum)
}

/// `row = normalise(row + change) · gain + bias` (Ba et al. 2016).
#[inline(always)]
pub(super) fn add_and_normalise<const FUSED: bool>(
    row: &mut [f32],
    change: &[f32],
    gain: &[f32],
    bias: &[f32],
    epsilon: f32,
) {
    for (value, change) in row.iter_mut().zip(change) {
        *value += change;
    }
    let count = row.len() as f32;
    let mean = fold(row, 0.0, sum, sum) / count;
    let squares = |sum, value: f32| multiply_add::<FUSED>(value - mean, value - mean, sum);
    let variance = fold(row, 0.0, squares, sum) / count;
    let scale = 1.0 / (variance + epsilon).sqrt();
    for ((value, gain), bias) in row.iter_mut().zip(gain).zip(bias) {
        *value = multiply_add::<FUSED>((*value - mean) * scale, *gain, *bias);
    }
}

/// Adds and subtracts numbers at distances of `nearest` and its doubles, up to half the row: the fast Walsh-Hadamard
/// transform, or what of it crosses so many numbers.
#[inline(always)]
pub(super) fn mix(row: &mut [f32], nearest: usize) {
    let mut distance = row.len() / 2;
    while distance >= nearest {
        for pair in row.chunks_exact_mut(2 * distance) {
            let (left, right) = pair.split_at_mut(distance);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        distance /= 2;
    }
}

/// The smallest and the largest of a row and 0, and whether all its numbers are finite.
#[inline(always)]
fn range(row: &[f32]) -> (f32, f32, bool) {
    let (mut low, mut high, mut poison) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    let mut take = |lane: usize, value: f32| {
        low[lane] = smaller(low[lane], value);
        high[lane] = larger(high[lane], value);
        // 0 as long as all are finite, and not a number ever after.
        poison[lane] += value * 0.0;
    };
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in chunk.iter().enumerate() {
            take(lane, *value);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        take(lane, *value);
    }
    (join_lanes(low, smaller), join_lanes(high, larger), join_lanes(poison, sum) == 0.0)
}

/// Makes bytes of a row: `value ≈ scale · (byte − zero)`. Says scale and zero.
///
/// The range always contains 0, so that `zero` is a byte's value too.
#[inline(always)]
pub(super) fn quantise<const FUSED: bool>(row: &[f32], bytes: &mut [u8]) -> (f32, f32) {
    let (low, high, finite) = range(row);
    if !finite {
        return (f32::NAN, 0.0);
    }
    let range = high - low;
    // A row of zeros, or of numbers so small that their quotients would not be finite.
    if range <= f32::MIN_POSITIVE * 256.0 {
        bytes.fill(0);
        return (0.0, 0.0);
    }
    const ROUNDER: f32 = 12_582_912.0;
    let per_value = 255.0 / range;
    let zero = (-low * per_value).round_ties_even();
    for (byte, value) in bytes.iter_mut().zip(row) {
        // The lowest byte of the sum's bits is the nearest integer.
        let placed = multiply_add::<FUSED>(*value, per_value, zero).clamp(0.0, 255.0);
        *byte = (placed + ROUNDER).to_bits() as u8;
    }
    (range / 255.0, zero)
}
