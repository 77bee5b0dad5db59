//! Dot products of rows that lie one after another, many at a time.
//!
//! Owns the only line of `unsafe` in this crate: the call of what was compiled for an instruction set that this machine
//! was asked for first. Every version adds up in the same order, without fused operations, so that all machines come to
//! the same bits: which questions are one problem must not depend on where that was computed.

use std::sync::LazyLock;

/// Independent sums of one product; rows are padded to a multiple of it.
pub(super) const LANES: usize = 16;
/// Rows that one is multiplied by at a time, so that it is read once for all of them.
pub(super) const ROWS: usize = 4;

/// One row by [`ROWS`] others that lie one after another, each as long as it.
type Products = fn(&[f32], &[f32]) -> [f32; ROWS];

/// The fastest one that this machine can run.
pub(super) fn products() -> Products {
    static BEST: LazyLock<Products> = LazyLock::new(|| available().last().copied().unwrap_or(portable));
    *BEST
}

/// Every one that this machine can run, the slowest first.
fn available() -> Vec<Products> {
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "only there is more than one"))]
    let mut all: Vec<Products> = vec![portable];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            all.push(x86::with_avx2);
        }
        if is_x86_feature_detected!("avx512f") {
            all.push(x86::with_avx512);
        }
    }
    all
}

/// What every version is, compiled for whatever its caller may use.
#[inline(always)]
fn portable(row: &[f32], rows: &[f32]) -> [f32; ROWS] {
    let length = row.len();
    let mut sums = [[0.0_f32; LANES]; ROWS];
    for at in (0..length / LANES * LANES).step_by(LANES) {
        let Some(left) = row[at..].first_chunk::<LANES>() else { break };
        for (number, sums) in sums.iter_mut().enumerate() {
            let Some(right) = rows[number * length + at..].first_chunk::<LANES>() else { break };
            for lane in 0..LANES {
                sums[lane] += left[lane] * right[lane];
            }
        }
    }
    sums.map(folded)
}

/// The product of two rows, as long as each other, to the same bits as in a block.
pub(super) fn product(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    for (left, right) in left.chunks_exact(LANES).zip(right.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    folded(sums)
}

/// Halves are added to each other until one number is left, as vector units do it.
#[inline(always)]
fn folded(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{ROWS, portable};

    pub(super) fn with_avx2(row: &[f32], rows: &[f32]) -> [f32; ROWS] {
        #[target_feature(enable = "avx2")]
        fn compiled(row: &[f32], rows: &[f32]) -> [f32; ROWS] {
            portable(row, rows)
        }
        // SAFETY: `available` names this function only where the machine has AVX2.
        unsafe { compiled(row, rows) }
    }

    pub(super) fn with_avx512(row: &[f32], rows: &[f32]) -> [f32; ROWS] {
        #[target_feature(enable = "avx512f")]
        fn compiled(row: &[f32], rows: &[f32]) -> [f32; ROWS] {
            portable(row, rows)
        }
        // SAFETY: `available` names this function only where the machine has AVX-512.
        unsafe { compiled(row, rows) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_comes_to_the_same_bits() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for length in [0, 16, 32, 384, 1_024] {
            let mut row = |count: usize| -> Vec<f32> { (0..count).map(|_| random.f32() - 0.5).collect() };
            let (one, others) = (row(length), row(length * ROWS));
            let expected: Vec<u32> =
                (0..ROWS).map(|number| product(&one, &others[number * length..][..length]).to_bits()).collect();
            for version in available() {
                assert_eq!(version(&one, &others).map(f32::to_bits).to_vec(), expected, "{length}");
            }
            let exact: f64 = one.iter().zip(&others).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((exact - f64::from(f32::from_bits(expected[0]))).abs() < 1e-4);
        }
    }
}
