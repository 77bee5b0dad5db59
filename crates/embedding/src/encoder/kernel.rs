//! Matrix products and the passes between them, for each instruction set, chosen when the program runs.
//!
//! Owns the layout of packed weights and every line of `unsafe` of the encoder. Numbers are either 32-bit floats, or
//! bytes with a scale: weights are signed bytes with one scale an output, activations unsigned bytes with a scale and a
//! zero a row. A product of bytes adds up in integers, so every kernel gives the same sums to the last bit; with floats,
//! every sum runs in one order that depends on nothing but its own row and column.
//!
//! It does not know what a layer is, and starts no threads.

#[macro_use]
mod elementwise;

/// Calls a function that is generic over the number of rows with a number that is only known now, at most `all`.
#[cfg(target_arch = "x86_64")]
macro_rules! with_rows {
    ($rows:expr, [$($fewer:literal)*] or $all:ident, $tile:ident $arguments:tt) => {
        match $rows {
            $($fewer => $tile::<$fewer> $arguments,)*
            _ => $tile::<$all> $arguments,
        }
    };
}

mod portable;

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use std::sync::LazyLock;

/// Outputs that lie side by side in packed weights.
pub(super) const PANEL: usize = 32;
/// Rows of bytes begin at multiples of this, and weights of bytes have a multiple of it of inputs: what a tile of AMX
/// reads at a time.
const BYTES_ALIGNED: usize = 64;
/// Inputs of a layer of bytes whose sum surely stays within 32 bits: 2³¹ / (255 · 127).
pub(super) const BYTES_DEPTH_MAX: usize = 66_311;
/// Inputs of a layer of bytes that are mixed with each other, where the layer's width is a multiple of it.
const MIXED: usize = 64;
/// Rows beyond the last that can be read, though nothing is made of them.
const ROWS_BEYOND: usize = 32;

/// Everything a network's pass is made of, for one instruction set.
pub(super) struct Kernel {
    /// The instruction set, for logs, metrics and failing tests.
    pub(super) name: &'static str,
    floats: fn(&FloatProduct<'_>, Output<'_>),
    bytes: fn(&ByteProduct<'_>, Output<'_>),
    gelu: fn(&mut [f32]),
    exponentials: fn(&mut [f32]) -> f32,
    add_and_normalise: fn(&mut [f32], &[f32], &Norm, f32),
    quantise: fn(&[f32], &mut [u8]) -> (f32, f32),
    mix: fn(&[[f32; MIXED]], &mut [[f32; MIXED]]),
}

/// Layer normalisation's gain and bias.
pub(super) struct Norm {
    pub(super) gain: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// One input of a panel: what it weighs in each output.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; PANEL]);

/// Four inputs of a panel, those of one output side by side.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Quad([i8; 4 * PANEL]);

/// A matrix of floats, cut into panels of [`PANEL`] columns that are filled up with zeros.
#[derive(Default)]
pub(super) struct FloatPanels {
    lines: Vec<Line>,
    depth: usize,
    columns: usize,
}

impl FloatPanels {
    /// Packs a matrix that is given as one row an output.
    pub(super) fn pack(by_output: &[f32], depth: usize) -> FloatPanels {
        let mut panels = FloatPanels::default();
        panels.shape(depth, by_output.len() / depth);
        for (column, row) in by_output.chunks_exact(depth).enumerate() {
            panels.set_column(column, row);
        }
        panels
    }

    /// Becomes a matrix of zeros of this shape, in the memory it has.
    pub(super) fn shape(&mut self, depth: usize, columns: usize) {
        self.lines.clear();
        self.lines.resize(columns.div_ceil(PANEL) * depth, Line([0.0; PANEL]));
        (self.depth, self.columns) = (depth, columns);
    }

    /// Sets one column.
    pub(super) fn set_column(&mut self, column: usize, values: &[f32]) {
        let panel = &mut self.lines[column / PANEL * self.depth..][..self.depth];
        for (line, value) in panel.iter_mut().zip(values) {
            line.0[column % PANEL] = *value;
        }
    }

    /// Sets one row: an input's weights, beginning with the first output's.
    pub(super) fn set_row(&mut self, row: usize, values: &[f32]) {
        for (panel, part) in values.chunks(PANEL).enumerate() {
            self.lines[panel * self.depth + row].0[..part.len()].copy_from_slice(part);
        }
    }

    fn panel(&self, panel: usize) -> &[Line] {
        &self.lines[panel * self.depth..][..self.depth]
    }
}

/// A matrix of bytes, cut into panels, and what turns its integer sums into numbers.
pub(super) struct BytePanels {
    quads: Vec<Quad>,
    /// Inputs, filled up with zeros to a multiple of [`BYTES_ALIGNED`].
    depth: usize,
    columns: usize,
    /// For every output, what a weight's byte stands for. As many as there are columns in the panels.
    scales: Vec<f32>,
    /// For every output, the sum of its bytes.
    sums: Vec<f32>,
}

impl BytePanels {
    /// Quantises and packs a matrix that is given as one row an output: mixed as the rows that meet it will be,
    /// symmetrically, one scale an output.
    pub(super) fn pack(kernel: &Kernel, by_output: &[f32], inputs: usize) -> BytePanels {
        // Mixing twice multiplies by the number of what is mixed; once on either side, this takes it back.
        let back = 1.0 / mixed_inputs(inputs) as f32;
        let mut mixed = vec![0.0; inputs];
        let columns = by_output.len() / inputs;
        let depth = inputs.next_multiple_of(BYTES_ALIGNED);
        let padded = columns.next_multiple_of(PANEL);
        let mut panels = BytePanels {
            quads: vec![Quad([0; 4 * PANEL]); padded / PANEL * depth / 4],
            depth,
            columns,
            scales: vec![0.0; padded],
            sums: vec![0.0; padded],
        };
        for (column, row) in by_output.chunks_exact(inputs).enumerate() {
            kernel.mix(row, &mut mixed);
            mixed.iter_mut().for_each(|weight| *weight *= back);
            let largest = mixed.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
            let scale = largest / f32::from(i8::MAX);
            let per_weight = if scale > f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 };
            let mut sum = 0;
            let quads = &mut panels.quads[column / PANEL * depth / 4..];
            for (input, weight) in mixed.iter().enumerate() {
                let byte = (weight * per_weight).round_ties_even() as i8;
                quads[input / 4].0[column % PANEL * 4 + input % 4] = byte;
                sum += i32::from(byte);
            }
            panels.scales[column] = scale;
            panels.sums[column] = sum as f32;
        }
        panels
    }

    fn panel(&self, panel: usize) -> &[Quad] {
        &self.quads[panel * self.depth / 4..][..self.depth / 4]
    }
}

/// Rows of activations as bytes: `value ≈ scale · (byte − zero)`.
#[derive(Default)]
pub(super) struct ByteRows {
    bytes: Vec<u8>,
    /// Bytes from one row to the next.
    stride: usize,
    scales: Vec<f32>,
    zeros: Vec<f32>,
    /// One row, mixed.
    mixed: Vec<f32>,
}

impl ByteRows {
    /// Mixes and quantises rows, in the memory it has.
    pub(super) fn fill(&mut self, kernel: &Kernel, rows: &[f32], width: usize) {
        let count = rows.len() / width;
        self.stride = width.next_multiple_of(BYTES_ALIGNED);
        // What a row is filled up with meets weights of zero, so it does not matter what it was before.
        self.bytes.resize((count + ROWS_BEYOND) * self.stride, 0);
        self.scales.clear();
        self.zeros.clear();
        self.mixed.resize(width, 0.0);
        for (row, bytes) in rows.chunks_exact(width).zip(self.bytes.chunks_exact_mut(self.stride)) {
            kernel.mix(row, &mut self.mixed);
            let (scale, zero) = (kernel.quantise)(&self.mixed, &mut bytes[..width]);
            self.scales.push(scale);
            self.zeros.push(zero);
        }
    }
}

/// `scale · rows · panels + bias`
pub(super) struct FloatProduct<'a> {
    /// Rows that begin every `stride` numbers; the last one may end with the last number it needs.
    pub(super) rows: &'a [f32],
    pub(super) stride: usize,
    pub(super) count: usize,
    pub(super) panels: &'a FloatPanels,
    pub(super) scale: f32,
    /// As many as there are columns in the panels.
    pub(super) bias: &'a [f32],
}

/// `rows · panels + bias`
struct ByteProduct<'a> {
    rows: &'a ByteRows,
    count: usize,
    panels: &'a BytePanels,
    bias: &'a [f32],
}

/// Where a product's rows go.
pub(super) struct Output<'a> {
    pub(super) rows: &'a mut [f32],
    pub(super) stride: usize,
}

impl Kernel {
    /// Multiplies floats.
    pub(super) fn multiply(&self, product: &FloatProduct<'_>, output: Output<'_>) {
        let FloatProduct { rows, stride, count, panels, bias, .. } = *product;
        if count == 0 || panels.columns == 0 {
            return;
        }
        // What the kernels' safety rests on.
        assert!(holds(rows.len(), count, stride, panels.depth), "rows are missing");
        check(&output, count, panels.columns, bias);
        (self.floats)(product, output);
    }

    /// Multiplies bytes.
    pub(super) fn multiply_bytes(&self, rows: &ByteRows, panels: &BytePanels, bias: &[f32], output: Output<'_>) {
        let count = rows.scales.len();
        if count == 0 || panels.columns == 0 {
            return;
        }
        // What the kernels' safety rests on.
        assert!(rows.stride == panels.depth, "rows are not as wide as the matrix is deep");
        let (all, stride) = (count + ROWS_BEYOND, rows.stride);
        assert!(holds(rows.bytes.len(), all, stride, stride) && rows.zeros.len() == count, "rows are missing");
        check(&output, count, panels.columns, bias);
        (self.bytes)(&ByteProduct { rows, count, panels, bias }, output);
    }

    /// Multiplies a row by a Hadamard matrix of 1 and −1, block by block, so that what one number stands out by is spread
    /// over its block. Done to a row and to the weights that it meets, it changes no product but by a factor, and both
    /// lose less when they become bytes (Ashkboos et al. 2024, <https://arxiv.org/abs/2404.00456>).
    fn mix(&self, row: &[f32], mixed: &mut [f32]) {
        let block = mixed_inputs(row.len());
        if block == MIXED {
            (self.mix)(row.as_chunks().0, mixed.as_chunks_mut().0);
            return;
        }
        for (row, mixed) in row.chunks_exact(block).zip(mixed.chunks_exact_mut(block)) {
            mixed.copy_from_slice(row);
            elementwise::mix(mixed, 1);
        }
    }

    /// The activation of every number.
    pub(super) fn gelu(&self, row: &mut [f32]) {
        (self.gelu)(row);
    }

    /// Makes of each score e to the power of its distance to the largest one, and says their sum.
    pub(super) fn exponentials(&self, row: &mut [f32]) -> f32 {
        (self.exponentials)(row)
    }

    /// Adds to every row its change and normalises it.
    pub(super) fn add_and_normalise(&self, rows: &mut [f32], changes: &[f32], norm: &Norm, epsilon: f32) {
        let width = norm.gain.len();
        for (row, change) in rows.chunks_exact_mut(width).zip(changes.chunks_exact(width)) {
            (self.add_and_normalise)(row, change, norm, epsilon);
        }
    }
}

/// How many inputs of a layer are mixed with each other: a power of two of which the layer has a multiple.
fn mixed_inputs(width: usize) -> usize {
    1 << width.trailing_zeros().min(MIXED.trailing_zeros())
}

fn check(output: &Output<'_>, count: usize, columns: usize, bias: &[f32]) {
    assert!(bias.len() >= columns.next_multiple_of(PANEL), "the bias is too short");
    assert!(columns <= output.stride && holds(output.rows.len(), count, output.stride, columns), "no room");
}

/// Whether a length has room for rows of `width`, at least one, that begin every `stride`.
fn holds(length: usize, count: usize, stride: usize, width: usize) -> bool {
    (count - 1).checked_mul(stride).and_then(|last| last.checked_add(width)).is_some_and(|needed| needed <= length)
}

/// Operations a second on bytes in registers, of one thread with AVX-512 VNNI: what a product could reach at most.
pub(crate) fn vnni_peak_of_one_thread() -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        avx512::peak()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        None
    }
}

/// The fastest kernel this machine can run.
pub(super) fn best() -> &'static Kernel {
    static BEST: LazyLock<Kernel> = LazyLock::new(|| available().swap_remove(0));
    &BEST
}

/// Every kernel this machine can run, fastest first; the portable one is always the last.
fn available() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        kernels.extend(amx::kernel());
        kernels.extend(avx512::kernel());
        kernels.extend(avx2::kernels());
    }
    kernels.push(portable::kernel());
    kernels
}

/// Cuts a product into tiles of at most `tile_rows` rows and one panel, in blocks of `block_rows` rows, so that a block's
/// rows and a panel stay in the cache.
///
/// `tile` gets the first row, the number of rows, the panel, and where its first number goes with the distance between
/// rows; room for whole panels is there.
#[inline(always)]
fn each_tile(
    (count, columns): (usize, usize),
    (block_rows, tile_rows): (usize, usize),
    output: Output<'_>,
    mut tile: impl FnMut(usize, usize, usize, *mut f32, usize),
) {
    let mut aside = [0.0; PANEL * MOST_TILE_ROWS];
    debug_assert!(tile_rows <= MOST_TILE_ROWS);
    for block in (0..count).step_by(block_rows) {
        let end = (block + block_rows).min(count);
        for panel in 0..columns.div_ceil(PANEL) {
            let wide = (columns - panel * PANEL).min(PANEL);
            for row in (block..end).step_by(tile_rows) {
                let rows = (end - row).min(tile_rows);
                let at = row * output.stride + panel * PANEL;
                if wide == PANEL {
                    tile(row, rows, panel, output.rows[at..].as_mut_ptr(), output.stride);
                    continue;
                }
                tile(row, rows, panel, aside.as_mut_ptr(), PANEL);
                for (row, numbers) in aside.chunks_exact(PANEL).take(rows).enumerate() {
                    output.rows[at + row * output.stride..][..wide].copy_from_slice(&numbers[..wide]);
                }
            }
        }
    }
}

/// The most rows that any kernel has in a tile.
const MOST_TILE_ROWS: usize = 32;

#[cfg(test)]
mod tests;
