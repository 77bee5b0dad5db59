//! AVX2, with the dot product of bytes where the processor has AVX-VNNI and with products of 16-bit numbers elsewhere.
//!
//! AVX2's own product of bytes adds two of them in 16 bits and cuts off what does not fit; widened to 16 bits first, the
//! sums are the same as everywhere.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm_set1_epi32, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps,
    _mm256_cvtepu8_epi16, _mm256_dpbusd_avx_epi32, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_hadd_epi32,
    _mm256_load_si256, _mm256_loadu_ps, _mm256_madd_epi16, _mm256_mul_ps, _mm256_permute_ps, _mm256_permute2f128_ps,
    _mm256_permute4x64_epi64, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_ps, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_storeu_ps,
};

use super::{ByteProduct, FloatProduct, Kernel, MIXED, Norm, Output, PANEL, each_tile, elementwise};

const TILE_ROWS: usize = 4;
const BLOCK_ROWS: usize = 32;

pub(super) fn kernels() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        return kernels;
    }
    let widening = || Kernel {
        name: "avx2",
        // SAFETY (all): the features the functions are compiled for are present, and `Kernel`'s methods have checked the
        // lengths that products rest on.
        floats: |product, output| unsafe { floats(product, output) },
        bytes: |product, output| unsafe { bytes(product, output) },
        gelu: |row| unsafe { gelu(row) },
        exponentials: |row| unsafe { exponentials(row) },
        add_and_normalise: |row, change, norm, epsilon| unsafe { add_and_normalise(row, change, norm, epsilon) },
        quantise: |row, bytes| unsafe { quantise(row, bytes) },
        mix: |rows, mixed| unsafe { mix(rows, mixed) },
    };
    if is_x86_feature_detected!("avxvnni") {
        kernels.push(Kernel {
            name: "avx_vnni",
            // SAFETY: as above.
            bytes: |product, output| unsafe { bytes_vnni(product, output) },
            ..widening()
        });
    }
    kernels.push(widening());
    kernels
}

elementwise!("avx2,fma");

/// Eight numbers a register; what is further apart is mixed before, and within a register numbers change places with their
/// neighbours.
#[target_feature(enable = "avx2,fma")]
fn mix(rows: &[[f32; MIXED]], mixed: &mut [[f32; MIXED]]) {
    // Of two numbers at a distance, the first becomes their sum and the second their difference.
    let signs = [
        _mm256_setr_ps(1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0),
        _mm256_setr_ps(1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0),
        _mm256_setr_ps(1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0),
    ];
    for (row, mixed) in rows.iter().zip(mixed) {
        *mixed = *row;
        elementwise::mix(mixed, 8);
        for eight in mixed.as_chunks_mut::<8>().0 {
            // SAFETY: eight numbers.
            let mut numbers = unsafe { _mm256_loadu_ps(eight.as_ptr()) };
            numbers = _mm256_fmadd_ps(numbers, signs[0], _mm256_permute2f128_ps::<1>(numbers, numbers));
            numbers = _mm256_fmadd_ps(numbers, signs[1], _mm256_permute_ps::<0b01_00_11_10>(numbers));
            numbers = _mm256_fmadd_ps(numbers, signs[2], _mm256_permute_ps::<0b10_11_00_01>(numbers));
            // SAFETY: room for eight numbers.
            unsafe { _mm256_storeu_ps(eight.as_mut_ptr(), numbers) };
        }
    }
}

/// # Safety
///
/// The lengths are those that `Kernel::multiply` checks.
#[target_feature(enable = "avx2,fma")]
unsafe fn floats(product: &FloatProduct<'_>, output: Output<'_>) {
    let FloatProduct { rows, stride, count, panels, .. } = *product;
    let shape = (count, panels.columns);
    each_tile(shape, (BLOCK_ROWS, TILE_ROWS), output, |row, tile_rows, panel, out, out_stride| {
        let from = rows[row * stride..].as_ptr();
        // SAFETY: `row + tile_rows <= count`, and `Kernel::multiply` has seen that so many rows are there.
        unsafe { with_rows!(tile_rows, [1 2 3] or TILE_ROWS, float_tile(product, from, panel, out, out_stride)) }
    });
}

/// Sixteen columns at a time: eight sums, two weights and a value fit the sixteen registers.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn float_tile<const ROWS: usize>(
    product: &FloatProduct<'_>,
    from: *const f32,
    panel: usize,
    out: *mut f32,
    out_stride: usize,
) {
    let scale = _mm256_set1_ps(product.scale);
    let bias = &product.bias[panel * PANEL..][..PANEL];
    for half in [0, 16] {
        let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
        for (at, line) in product.panels.panel(panel).iter().enumerate() {
            let weights = line.0[half..half + 16].as_ptr();
            // SAFETY: the half of a line has sixteen numbers.
            let (left, right) = unsafe { (_mm256_loadu_ps(weights), _mm256_loadu_ps(weights.add(8))) };
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: each of the rows has as many numbers as the panel has lines.
                let value = unsafe { _mm256_set1_ps(*from.add(row * product.stride + at)) };
                sums[0] = _mm256_fmadd_ps(value, left, sums[0]);
                sums[1] = _mm256_fmadd_ps(value, right, sums[1]);
            }
        }
        for quarter in 0..2 {
            let column = half + quarter * 8;
            // SAFETY: eight numbers from `column` lie within the panel, for which each row has room.
            unsafe {
                let bias = _mm256_loadu_ps(bias.as_ptr().add(column));
                for (row, sums) in sums.iter().enumerate() {
                    let value = _mm256_fmadd_ps(sums[quarter], scale, bias);
                    _mm256_storeu_ps(out.add(row * out_stride + column), value);
                }
            }
        }
    }
}

/// # Safety
///
/// The lengths are those that `Kernel::multiply_bytes` checks.
#[target_feature(enable = "avx2,fma")]
unsafe fn bytes(product: &ByteProduct<'_>, output: Output<'_>) {
    let shape = (product.count, product.panels.columns);
    each_tile(shape, (BLOCK_ROWS, TILE_ROWS), output, |row, tile_rows, panel, out, out_stride| {
        // SAFETY: `row + tile_rows <= count`, and `Kernel::multiply_bytes` has seen that so many rows are there.
        unsafe { with_rows!(tile_rows, [1 2 3] or TILE_ROWS, byte_tile(product, row, panel, out, out_stride)) }
    });
}

/// Eight columns at a time. A register of sums holds two for each of four columns until the end.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn byte_tile<const ROWS: usize>(
    product: &ByteProduct<'_>,
    first: usize,
    panel: usize,
    out: *mut f32,
    out_stride: usize,
) {
    let stride = product.rows.stride;
    let from = product.rows.bytes[first * stride..].as_ptr();
    for column in (0..PANEL).step_by(8) {
        let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
        for (at, quad) in product.panels.panel(panel).iter().enumerate() {
            let weights = quad.0[column * 4..][..32].as_ptr().cast::<__m128i>();
            // SAFETY: eight columns of a quad are 32 bytes.
            let (left, right) = unsafe { (_mm_loadu_si128(weights), _mm_loadu_si128(weights.add(1))) };
            let (left, right) = (_mm256_cvtepi8_epi16(left), _mm256_cvtepi8_epi16(right));
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: each of the rows has four bytes for every quad of the panel.
                let values = unsafe { from.add(row * stride + at * 4).cast::<i32>().read_unaligned() };
                let values = _mm256_cvtepu8_epi16(_mm_set1_epi32(values));
                sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(values, left));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(values, right));
            }
        }
        for (row, [left, right]) in sums.into_iter().enumerate() {
            // Sums of neighbours, which come out with the middle two quarters exchanged.
            let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(left, right));
            // SAFETY: eight numbers from `column` lie within the panel, for which each row has room.
            unsafe { finish(product, first + row, panel * PANEL + column, sums, out.add(row * out_stride + column)) };
        }
    }
}

/// # Safety
///
/// The lengths are those that `Kernel::multiply_bytes` checks.
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn bytes_vnni(product: &ByteProduct<'_>, output: Output<'_>) {
    let shape = (product.count, product.panels.columns);
    each_tile(shape, (BLOCK_ROWS, TILE_ROWS), output, |row, tile_rows, panel, out, out_stride| {
        // SAFETY: `row + tile_rows <= count`, and `Kernel::multiply_bytes` has seen that so many rows are there.
        unsafe { with_rows!(tile_rows, [1 2 3] or TILE_ROWS, byte_tile_vnni(product, row, panel, out, out_stride)) }
    });
}

/// Sixteen columns at a time.
#[target_feature(enable = "avx2,fma,avxvnni")]
#[inline]
unsafe fn byte_tile_vnni<const ROWS: usize>(
    product: &ByteProduct<'_>,
    first: usize,
    panel: usize,
    out: *mut f32,
    out_stride: usize,
) {
    let stride = product.rows.stride;
    let from = product.rows.bytes[first * stride..].as_ptr();
    for half in [0, 16] {
        let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
        for (at, quad) in product.panels.panel(panel).iter().enumerate() {
            let weights = quad.0[half * 4..][..64].as_ptr().cast::<__m256i>();
            // SAFETY: sixteen columns of a quad are 64 bytes and begin at a multiple of 64.
            let (left, right) = unsafe { (_mm256_load_si256(weights), _mm256_load_si256(weights.add(1))) };
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: each of the rows has four bytes for every quad of the panel.
                let values = unsafe { from.add(row * stride + at * 4).cast::<i32>().read_unaligned() };
                let values = _mm256_set1_epi32(values);
                sums[0] = _mm256_dpbusd_avx_epi32(sums[0], values, left);
                sums[1] = _mm256_dpbusd_avx_epi32(sums[1], values, right);
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            for (quarter, sums) in sums.into_iter().enumerate() {
                let column = half + quarter * 8;
                // SAFETY: eight numbers from `column` lie within the panel, for which each row has room.
                unsafe {
                    finish(product, first + row, panel * PANEL + column, sums, out.add(row * out_stride + column));
                }
            }
        }
    }
}

/// Makes numbers of eight columns' integer sums.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn finish(product: &ByteProduct<'_>, row: usize, column: usize, sums: __m256i, out: *mut f32) {
    let load = |values: &[f32]| {
        let values = &values[column..][..8];
        // SAFETY: the slice has eight numbers.
        unsafe { _mm256_loadu_ps(values.as_ptr()) }
    };
    let (scale, zero) = (product.rows.scales[row], product.rows.zeros[row]);
    let value = _mm256_fnmadd_ps(_mm256_set1_ps(zero), load(&product.panels.sums), _mm256_cvtepi32_ps(sums));
    let value = _mm256_mul_ps(value, load(&product.panels.scales));
    let value = _mm256_fmadd_ps(value, _mm256_set1_ps(scale), load(product.bias));
    // SAFETY: the caller gives room for eight numbers.
    unsafe { _mm256_storeu_ps(out, value) };
}
