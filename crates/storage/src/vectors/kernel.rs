//! Dot products of f32 queries and f16 rows, and the bridge to the graph engine's metric.
//!
//! Owns every line of `unsafe` in the vector indexes: SIMD intrinsics behind run-time detection,
//! the memory that rows lie in (see [`RowBuffer`]), and the reading of the eight-byte tokens that the graph engine hands to its metric. It does
//! not know what a row belongs to.
//!
//! Every kernel adds up in one fixed order, so that on one kind of machine a row's score is the
//! same bits whether an exact scan or a graph walk computed it.

mod pages;

use std::sync::LazyLock;

use half::f16;

pub(super) use pages::RowBuffer;

/// How many rows a block holds: as many as a word of a bitmap has bits.
pub(super) const BLOCK_ROWS: usize = 64;

/// The dot products of one instruction set.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    /// The instruction set's name, for benchmarks and failing tests.
    pub name: &'static str,
    /// Query by row; the shorter length counts.
    pub dot: fn(&[f32], &[f16]) -> f32,
    /// Row by row; the shorter length counts.
    pub dot_rows: fn(&[f16], &[f16]) -> f32,
    /// Query by those rows of a block whose bits are set, into the same places of the output.
    /// Rows lie one after another, each as long as the query; bits beyond the last are ignored.
    pub dot_block: fn(&[f32], &[f16], u64, &mut [f32; BLOCK_ROWS]),
}

/// The fastest kernel this machine can run.
pub(super) fn kernel() -> &'static Kernel {
    static BEST: LazyLock<Kernel> = LazyLock::new(|| available().swap_remove(0));
    &BEST
}

/// Every kernel this machine can run, fastest first; the portable one is always the last.
fn available() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        kernels.extend(x86::avx512());
        kernels.extend(x86::avx2());
    }
    kernels.push(portable::KERNEL);
    kernels
}

/// Rows of a block that are both asked for and there.
fn present(mask: u64, rows: usize) -> u64 {
    match rows {
        0 => 0,
        1..BLOCK_ROWS => mask & ((1 << rows) - 1),
        _ => mask,
    }
}

/// Calls `score` for each row of the block that is asked for.
#[inline(always)]
fn each_row(length: usize, rows: &[f16], mask: u64, out: &mut [f32; BLOCK_ROWS], score: impl Fn(&[f16]) -> f32) {
    let mut left = present(mask, rows.len().checked_div(length).unwrap_or(0));
    while left != 0 {
        let row = left.trailing_zeros() as usize;
        left &= left - 1;
        out[row] = score(&rows[row * length..][..length]);
    }
}

mod portable {
    //! What every other kernel is tested against. Sixteen independent sums, which compilers turn
    //! into whatever vectors the target has.

    use super::{BLOCK_ROWS, Kernel, each_row};
    use half::f16;

    pub(super) const KERNEL: Kernel = Kernel { name: "portable", dot, dot_rows, dot_block };

    const LANES: usize = 16;

    /// Shifts the half's exponent and mantissa into place and multiplies the difference of the
    /// two biases (127 − 15 = 112) away, which also makes subnormals right. Not for infinities
    /// and NaN; none is ever stored.
    #[inline(always)]
    fn widen(half: f16) -> f32 {
        let bits = u32::from(half.to_bits());
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
        f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
    }

    #[inline(always)]
    fn sum_products<A: Copy>(left: &[A], right: &[f16], widen_left: impl Fn(A) -> f32) -> f32 {
        let mut sums = [0.0f32; LANES];
        let (left_chunks, right_chunks) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
        let length = left.len().min(right.len());
        let tail = length / LANES * LANES;
        for (a, b) in left_chunks.zip(right_chunks) {
            for lane in 0..LANES {
                sums[lane] += widen_left(a[lane]) * widen(b[lane]);
            }
        }
        for (lane, at) in (tail..length).enumerate() {
            sums[lane] += widen_left(left[at]) * widen(right[at]);
        }
        sums.iter().sum()
    }

    pub(super) fn dot(query: &[f32], row: &[f16]) -> f32 {
        sum_products(query, row, |a| a)
    }

    fn dot_rows(left: &[f16], right: &[f16]) -> f32 {
        sum_products(left, right, widen)
    }

    fn dot_block(query: &[f32], rows: &[f16], mask: u64, out: &mut [f32; BLOCK_ROWS]) {
        each_row(query.len(), rows, mask, out, |row| dot(query, row));
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! AVX-512 and AVX2 with F16C. The safe functions that wrap the intrinsics are reachable
    //! only through [`avx512`] and [`avx2`], which look at the machine first.

    use super::{BLOCK_ROWS, Kernel, each_row};
    use half::f16;
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadu_si128, _mm_movehl_ps, _mm_shuffle_ps,
        _mm256_add_ps, _mm256_castps256_ps128, _mm256_cvtph_ps, _mm256_extractf128_ps, _mm256_fmadd_ps,
        _mm256_loadu_ps, _mm256_loadu_si256, _mm256_maskz_loadu_epi16, _mm256_setzero_ps, _mm512_add_ps,
        _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_loadu_ps, _mm512_reduce_add_ps,
        _mm512_setzero_ps,
    };

    pub(super) fn avx512() -> Option<Kernel> {
        let able = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl");
        able.then_some(Kernel {
            name: "avx512",
            // SAFETY (all three): the features the functions are compiled for are present.
            dot: |query, row| unsafe { dot_avx512(query, row) },
            dot_rows: |left, right| unsafe { dot_rows_avx512(left, right) },
            dot_block: |query, rows, mask, out| unsafe { block_avx512(query, rows, mask, out) },
        })
    }

    pub(super) fn avx2() -> Option<Kernel> {
        let able =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        able.then_some(Kernel {
            name: "avx2",
            // SAFETY (all three): the features the functions are compiled for are present.
            dot: |query, row| unsafe { dot_avx2(query, row) },
            dot_rows: |left, right| unsafe { dot_rows_avx2(left, right) },
            dot_block: |query, rows, mask, out| unsafe { block_avx2(query, rows, mask, out) },
        })
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn block_avx512(query: &[f32], rows: &[f16], mask: u64, out: &mut [f32; BLOCK_ROWS]) {
        each_row(query.len(), rows, mask, out, |row| dot_avx512(query, row));
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn block_avx2(query: &[f32], rows: &[f16], mask: u64, out: &mut [f32; BLOCK_ROWS]) {
        each_row(query.len(), rows, mask, out, |row| dot_avx2(query, row));
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn dot_avx512(query: &[f32], row: &[f16]) -> f32 {
        let length = query.len().min(row.len());
        let (query, row) = (query.as_ptr(), row.as_ptr());
        let mut sums = [_mm512_setzero_ps(); 4];
        let mut at = 0;
        while at + 64 <= length {
            for (step, sum) in sums.iter_mut().enumerate() {
                let here = at + step * 16;
                // SAFETY: `here + 16 <= at + 64 <= length`, which both slices reach.
                let (a, b) =
                    unsafe { (_mm512_loadu_ps(query.add(here)), _mm256_loadu_si256(row.add(here).cast::<__m256i>())) };
                *sum = _mm512_fmadd_ps(a, _mm512_cvtph_ps(b), *sum);
            }
            at += 64;
        }
        while at < length {
            let mask = tail_mask(length - at);
            // SAFETY: masked lanes are not read, and the others lie below `length`.
            let (a, b) = unsafe {
                (_mm512_maskz_loadu_ps(mask, query.add(at)), _mm256_maskz_loadu_epi16(mask, row.add(at).cast::<i16>()))
            };
            sums[0] = _mm512_fmadd_ps(a, _mm512_cvtph_ps(b), sums[0]);
            at += 16;
        }
        let [a, b, c, d] = sums;
        _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn dot_rows_avx512(left: &[f16], right: &[f16]) -> f32 {
        let length = left.len().min(right.len());
        let (left, right) = (left.as_ptr().cast::<i16>(), right.as_ptr().cast::<i16>());
        let mut sums = [_mm512_setzero_ps(); 4];
        let mut at = 0;
        while at + 64 <= length {
            for (step, sum) in sums.iter_mut().enumerate() {
                let here = at + step * 16;
                // SAFETY: `here + 16 <= at + 64 <= length`, which both slices reach.
                let (a, b) = unsafe {
                    (
                        _mm256_loadu_si256(left.add(here).cast::<__m256i>()),
                        _mm256_loadu_si256(right.add(here).cast::<__m256i>()),
                    )
                };
                *sum = _mm512_fmadd_ps(_mm512_cvtph_ps(a), _mm512_cvtph_ps(b), *sum);
            }
            at += 64;
        }
        while at < length {
            let mask = tail_mask(length - at);
            // SAFETY: masked lanes are not read, and the others lie below `length`.
            let (a, b) = unsafe {
                (_mm256_maskz_loadu_epi16(mask, left.add(at)), _mm256_maskz_loadu_epi16(mask, right.add(at)))
            };
            sums[0] = _mm512_fmadd_ps(_mm512_cvtph_ps(a), _mm512_cvtph_ps(b), sums[0]);
            at += 16;
        }
        let [a, b, c, d] = sums;
        _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)))
    }

    /// The lowest `left` of sixteen lanes.
    fn tail_mask(left: usize) -> u16 {
        if left >= 16 { u16::MAX } else { (1 << left) - 1 }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn dot_avx2(query: &[f32], row: &[f16]) -> f32 {
        let length = query.len().min(row.len());
        let mut sums = [_mm256_setzero_ps(); 4];
        let mut at = 0;
        while at + 32 <= length {
            for (step, sum) in sums.iter_mut().enumerate() {
                let here = at + step * 8;
                // SAFETY: `here + 8 <= at + 32 <= length`, which both slices reach.
                let (a, b) = unsafe {
                    (
                        _mm256_loadu_ps(query.as_ptr().add(here)),
                        _mm_loadu_si128(row.as_ptr().add(here).cast::<__m128i>()),
                    )
                };
                *sum = _mm256_fmadd_ps(a, _mm256_cvtph_ps(b), *sum);
            }
            at += 32;
        }
        let tail = super::portable::dot(&query[at..length], &row[at..length]);
        sum_avx2(sums) + tail
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn dot_rows_avx2(left: &[f16], right: &[f16]) -> f32 {
        let length = left.len().min(right.len());
        let mut sums = [_mm256_setzero_ps(); 4];
        let mut at = 0;
        while at + 32 <= length {
            for (step, sum) in sums.iter_mut().enumerate() {
                let here = at + step * 8;
                // SAFETY: `here + 8 <= at + 32 <= length`, which both slices reach.
                let (a, b) = unsafe {
                    (
                        _mm_loadu_si128(left.as_ptr().add(here).cast::<__m128i>()),
                        _mm_loadu_si128(right.as_ptr().add(here).cast::<__m128i>()),
                    )
                };
                *sum = _mm256_fmadd_ps(_mm256_cvtph_ps(a), _mm256_cvtph_ps(b), *sum);
            }
            at += 32;
        }
        let tail = (super::portable::KERNEL.dot_rows)(&left[at..length], &right[at..length]);
        sum_avx2(sums) + tail
    }

    #[target_feature(enable = "avx2")]
    fn sum_avx2(sums: [std::arch::x86_64::__m256; 4]) -> f32 {
        let [a, b, c, d] = sums;
        let sum = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
        let quad = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
        let pair = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));
        _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps::<1>(pair, pair)))
    }
}

/// What a graph node stores in place of its vector: the number of the row to look at.
pub(super) const TOKEN_BYTES: usize = 8;

/// Makes `index` measure distances with `distance`, which is given the tokens of the two nodes.
///
/// `distance` must not panic: it is called from C++.
pub(super) fn measure_by_token(
    index: &mut usearch::Index,
    distance: impl Fn(u64, u64) -> f32 + Send + Sync + 'static,
) -> Result<(), WrongLayout> {
    if index.dimensions() != TOKEN_BYTES || index.scalar_kind() != usearch::ScalarKind::U8 {
        return Err(WrongLayout);
    }
    index.change_metric::<u8>(Box::new(move |left: *const u8, right: *const u8| {
        // SAFETY: the engine calls its metric with two of its vectors or one and the caller's
        // query. The index holds vectors of TOKEN_BYTES bytes, as checked above, and refuses
        // queries of another length, so that many bytes can be read. They need no alignment.
        let (left, right) =
            unsafe { (left.cast::<[u8; TOKEN_BYTES]>().read(), right.cast::<[u8; TOKEN_BYTES]>().read()) };
        distance(u64::from_le_bytes(left), u64::from_le_bytes(right))
    }));
    Ok(())
}

/// The index given to [`measure_by_token`] does not hold tokens.
#[derive(Debug)]
pub(super) struct WrongLayout;

#[cfg(test)]
mod tests {
    use super::*;

    fn case(seed: u64, length: usize) -> (Vec<f32>, Vec<f16>, Vec<f16>) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut real = |_| random.f32() * 2.0 - 1.0;
        let query = (0..length).map(&mut real).collect();
        let left = (0..length).map(&mut real).map(f16::from_f32).collect();
        let right = (0..length).map(&mut real).map(f16::from_f32).collect();
        (query, left, right)
    }

    /// The sum in f64 and the largest error that adding in f32 may make.
    fn expected(left: &[f64], right: &[f64]) -> (f64, f64) {
        let products = left.iter().zip(right).map(|(a, b)| a * b);
        let magnitude: f64 = products.clone().map(f64::abs).sum();
        (products.sum(), magnitude * f64::from(f32::EPSILON) * 8.0 + 1e-30)
    }

    #[test]
    fn every_kernel_agrees_with_double_precision_at_every_length() {
        for length in (0..200).chain([383, 384, 385, 768, 1024, 1027]) {
            let (query, left, right) = case(length as u64, length);
            let wide = |row: &[f16]| row.iter().map(|x| x.to_f64()).collect::<Vec<_>>();
            let query_wide: Vec<f64> = query.iter().map(|x| f64::from(*x)).collect();
            let (by_query, query_error) = expected(&query_wide, &wide(&left));
            let (by_row, row_error) = expected(&wide(&left), &wide(&right));
            for kernel in available() {
                let got = f64::from((kernel.dot)(&query, &left));
                assert!((got - by_query).abs() <= query_error, "{} {length}", kernel.name);
                let got = f64::from((kernel.dot_rows)(&left, &right));
                assert!((got - by_row).abs() <= row_error, "{} {length}", kernel.name);
            }
        }
    }

    #[test]
    fn every_half_widens_exactly() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            if half.is_finite() {
                for kernel in available() {
                    let wide = (kernel.dot)(&[1.0], &[half]);
                    assert_eq!(wide, half.to_f32(), "{} {bits:04x}", kernel.name);
                }
            }
        }
    }

    #[test]
    fn a_block_scores_only_the_rows_asked_for_and_with_the_same_bits() {
        let length = 70;
        for kernel in available() {
            for rows in [0, 1, 5, 63, 64] {
                let (query, data, _) = case(7, length * rows.max(1));
                let (query, data) = (&query[..length], &data[..length * rows]);
                let mask = 0xa5a5_a5a5_5a5a_5a5b;
                let mut out = [f32::MIN; BLOCK_ROWS];
                (kernel.dot_block)(query, data, mask, &mut out);
                for (row, score) in out.iter().enumerate() {
                    let asked = row < rows && mask >> row & 1 == 1;
                    let expected = if asked { (kernel.dot)(query, &data[row * length..][..length]) } else { f32::MIN };
                    assert_eq!(score.to_bits(), expected.to_bits(), "{}", kernel.name);
                }
            }
        }
    }

    #[test]
    fn slices_of_unequal_length_are_read_up_to_the_shorter() {
        let (query, row, _) = case(3, 129);
        for kernel in available() {
            let whole = (kernel.dot)(&query[..100], &row[..100]);
            assert_eq!((kernel.dot)(&query, &row[..100]), whole, "{}", kernel.name);
            assert_eq!((kernel.dot)(&query[..100], &row), whole, "{}", kernel.name);
            assert_eq!((kernel.dot_rows)(&row, &row[..0]), 0.0, "{}", kernel.name);
        }
    }
}
