//! AVX-512, with VNNI for bytes: 14 rows by 32 columns stand in 28 of the 32 registers.

use std::{
    arch::x86_64::{
        __m512, __m512i, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_fnmadd_ps,
        _mm512_load_ps, _mm512_load_si512, _mm512_loadu_ps, _mm512_mul_ps, _mm512_permute_ps, _mm512_reduce_add_epi32,
        _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_f32x4,
        _mm512_storeu_ps, _mm512_sub_ps,
    },
    hint::black_box,
    time::Instant,
};

use super::{ByteProduct, FloatProduct, Kernel, MIXED, Norm, Output, PANEL, each_tile, elementwise};

const TILE_ROWS: usize = 14;
/// Rows whose bytes stay in the first cache with a panel of weights.
const BYTE_BLOCK_ROWS: usize = 2 * TILE_ROWS;
/// Rows of floats for which a panel of weights is read once; they fill much of the second cache.
const FLOAT_BLOCK_ROWS: usize = 16 * TILE_ROWS;

/// What the functions here are compiled for.
pub(super) fn present() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("fma")
}

pub(super) fn kernel() -> Option<Kernel> {
    present().then_some(Kernel {
        name: "avx512_vnni",
        // SAFETY (all): the features the functions are compiled for are present, and `Kernel`'s methods have checked the
        // lengths that products rest on.
        floats: |product, output| unsafe { floats(product, output) },
        bytes: |product, output| unsafe { bytes(product, output) },
        gelu: |row| unsafe { gelu(row) },
        exponentials: |row| unsafe { exponentials(row) },
        add_and_normalise: |row, change, norm, epsilon| unsafe { add_and_normalise(row, change, norm, epsilon) },
        quantise: |row, bytes| unsafe { quantise(row, bytes) },
        mix: |rows, mixed| unsafe { mix(rows, mixed) },
    })
}

elementwise!("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma");

/// Sixteen numbers a register, four registers a row; within a register, numbers change places with their neighbours.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
fn mix(rows: &[[f32; MIXED]], mixed: &mut [[f32; MIXED]]) {
    // Of two numbers at a distance, the first becomes their sum and the second their difference.
    let signs = |distance: usize| {
        let signs: [f32; 16] = std::array::from_fn(|at| if at & distance == 0 { 1.0 } else { -1.0 });
        // SAFETY: sixteen numbers.
        unsafe { _mm512_loadu_ps(signs.as_ptr()) }
    };
    let signs = [signs(8), signs(4), signs(2), signs(1)];
    for (row, mixed) in rows.iter().zip(mixed) {
        // SAFETY: four registers are a row.
        let [a, b, c, d] = [0, 16, 32, 48].map(|at| unsafe { _mm512_loadu_ps(row.as_ptr().add(at)) });
        let (a, c) = (_mm512_add_ps(a, c), _mm512_sub_ps(a, c));
        let (b, d) = (_mm512_add_ps(b, d), _mm512_sub_ps(b, d));
        let (a, b) = (_mm512_add_ps(a, b), _mm512_sub_ps(a, b));
        let (c, d) = (_mm512_add_ps(c, d), _mm512_sub_ps(c, d));
        for (register, mixed) in [a, b, c, d].into_iter().zip(mixed.as_chunks_mut::<16>().0) {
            let mut numbers = register;
            numbers = _mm512_fmadd_ps(numbers, signs[0], _mm512_shuffle_f32x4::<0b01_00_11_10>(numbers, numbers));
            numbers = _mm512_fmadd_ps(numbers, signs[1], _mm512_shuffle_f32x4::<0b10_11_00_01>(numbers, numbers));
            numbers = _mm512_fmadd_ps(numbers, signs[2], _mm512_permute_ps::<0b01_00_11_10>(numbers));
            numbers = _mm512_fmadd_ps(numbers, signs[3], _mm512_permute_ps::<0b10_11_00_01>(numbers));
            // SAFETY: room for sixteen numbers.
            unsafe { _mm512_storeu_ps(mixed.as_mut_ptr(), numbers) };
        }
    }
}

/// # Safety
///
/// The lengths are those that `Kernel::multiply` checks.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn floats(product: &FloatProduct<'_>, output: Output<'_>) {
    let FloatProduct { rows, stride, count, panels, .. } = *product;
    let shape = (count, panels.columns);
    each_tile(shape, (FLOAT_BLOCK_ROWS, TILE_ROWS), output, |row, tile_rows, panel, out, out_stride| {
        let from = rows[row * stride..].as_ptr();
        // SAFETY: `row + tile_rows <= count`, and `Kernel::multiply` has seen that so many rows are there.
        unsafe {
            with_rows!(tile_rows, [1 2 3 4 5 6 7 8 9 10 11 12 13] or TILE_ROWS, float_tile(product, from, panel, out, out_stride))
        }
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
#[inline]
unsafe fn float_tile<const ROWS: usize>(
    product: &FloatProduct<'_>,
    from: *const f32,
    panel: usize,
    out: *mut f32,
    out_stride: usize,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    for (at, line) in product.panels.panel(panel).iter().enumerate() {
        let weights = line.0.as_ptr();
        // SAFETY: a line has 32 numbers and is aligned to 64 bytes.
        let (left, right) = unsafe { (_mm512_load_ps(weights), _mm512_load_ps(weights.add(16))) };
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: each of the rows has as many numbers as the panel has lines.
            let value = unsafe { _mm512_set1_ps(*from.add(row * product.stride + at)) };
            sums[0] = _mm512_fmadd_ps(value, left, sums[0]);
            sums[1] = _mm512_fmadd_ps(value, right, sums[1]);
        }
    }
    let scale = _mm512_set1_ps(product.scale);
    let bias = &product.bias[panel * PANEL..][..PANEL];
    for half in 0..2 {
        // SAFETY: both halves lie within the panel's 32 numbers, and each row has room for a panel.
        unsafe {
            let bias = _mm512_loadu_ps(bias.as_ptr().add(half * 16));
            for (row, sums) in sums.iter().enumerate() {
                let value = _mm512_fmadd_ps(sums[half], scale, bias);
                _mm512_storeu_ps(out.add(row * out_stride + half * 16), value);
            }
        }
    }
}

/// # Safety
///
/// The lengths are those that `Kernel::multiply_bytes` checks.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn bytes(product: &ByteProduct<'_>, output: Output<'_>) {
    let shape = (product.count, product.panels.columns);
    each_tile(shape, (BYTE_BLOCK_ROWS, TILE_ROWS), output, |row, tile_rows, panel, out, out_stride| {
        // SAFETY: `row + tile_rows <= count`, and `Kernel::multiply_bytes` has seen that so many rows are there.
        unsafe {
            with_rows!(tile_rows, [1 2 3 4 5 6 7 8 9 10 11 12 13] or TILE_ROWS, byte_tile(product, row, panel, out, out_stride))
        }
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
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
    let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
    for (at, quad) in product.panels.panel(panel).iter().enumerate() {
        let weights = quad.0.as_ptr().cast::<__m512i>();
        // SAFETY: a quad has 128 bytes and is aligned to 64.
        let (left, right) = unsafe { (_mm512_load_si512(weights), _mm512_load_si512(weights.add(1))) };
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: each of the rows has four bytes for every quad of the panel.
            let values = unsafe { from.add(row * stride + at * 4).cast::<i32>().read_unaligned() };
            let values = _mm512_set1_epi32(values);
            sums[0] = _mm512_dpbusd_epi32(sums[0], values, left);
            sums[1] = _mm512_dpbusd_epi32(sums[1], values, right);
        }
    }
    for half in 0..2 {
        let column = panel * PANEL + half * 16;
        // SAFETY: 16 numbers from `column` lie within the panel, and each row has room for a panel.
        unsafe {
            let finish = Finish::new(product, column);
            for (row, sums) in sums.iter().enumerate() {
                let value = finish.number(product, first + row, sums[half]);
                _mm512_storeu_ps(out.add(row * out_stride + half * 16), value);
            }
        }
    }
}

/// Operations a second of a loop that leaves its 24 registers for nothing.
pub(super) fn peak() -> Option<f64> {
    const SUMS: usize = 24;
    const TURNS: u32 = 10_000_000;
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
    fn turn() -> i32 {
        let mut sums = [_mm512_setzero_si512(); SUMS];
        let (values, weights) = (_mm512_set1_epi32(black_box(0x0102_0304)), _mm512_set1_epi32(black_box(0x0101_0101)));
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, values, weights);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_epi32(sum)).fold(0, i32::wrapping_add)
    }
    if !present() {
        return None;
    }
    let started = Instant::now();
    // SAFETY: the features are present.
    black_box(unsafe { turn() });
    // 64 products and as many additions an instruction.
    Some(f64::from(TURNS) * SUMS as f64 * 128.0 / started.elapsed().as_secs_f64())
}

/// What makes numbers of sixteen columns' integer sums.
pub(super) struct Finish {
    scales: __m512,
    sums: __m512,
    bias: __m512,
}

impl Finish {
    /// Reads what belongs to the sixteen columns from this one.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
    #[inline]
    pub(super) fn new(product: &ByteProduct<'_>, column: usize) -> Finish {
        let load = |values: &[f32]| {
            let values = &values[column..][..16];
            // SAFETY: the slice has 16 numbers.
            unsafe { _mm512_loadu_ps(values.as_ptr()) }
        };
        Finish { scales: load(&product.panels.scales), sums: load(&product.panels.sums), bias: load(product.bias) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
    #[inline]
    pub(super) fn number(&self, product: &ByteProduct<'_>, row: usize, sums: __m512i) -> __m512 {
        let (scale, zero) = (product.rows.scales[row], product.rows.zeros[row]);
        let value = _mm512_fnmadd_ps(_mm512_set1_ps(zero), self.sums, _mm512_cvtepi32_ps(sums));
        _mm512_fmadd_ps(_mm512_mul_ps(value, self.scales), _mm512_set1_ps(scale), self.bias)
    }
}
