//! AMX: tiles of 16 rows by 64 bytes that multiply as matrices, for bytes alone. Everything else is AVX-512.
//!
//! The compiler knows no stable intrinsics for tiles, so the two inner loops are assembly. The compiler itself never
//! touches a tile register. Linux gives a process the tiles' state when it asks for it.

use std::{
    arch::{
        asm,
        x86_64::{__cpuid_count, __m512i, _mm512_loadu_si512, _mm512_storeu_ps},
    },
    ptr,
};

use super::{
    BYTES_ALIGNED, ByteProduct, Kernel, Output, PANEL, Quad,
    avx512::{self, Finish},
    each_tile,
};

/// Two tiles below each other.
const TILE_ROWS: usize = 32;
/// Bytes from one row of a tile of weights to the next: a quad.
const QUAD_BYTES: usize = size_of::<Quad>();

pub(super) fn kernel() -> Option<Kernel> {
    let avx512 = avx512::kernel()?;
    present().then_some(Kernel {
        name: "amx_int8",
        // SAFETY: tiles are present and permitted, and `Kernel`'s methods have checked the lengths.
        bytes: |product, output| unsafe { bytes(product, output) },
        ..avx512
    })
}

/// Whether the machine has tiles of bytes, and the system lets this process use them.
#[cfg(target_os = "linux")]
fn present() -> bool {
    /// <https://docs.kernel.org/arch/x86/xstate.html>
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    const LEAF_7_EDX: u32 = 1 << 24 | 1 << 25;
    if __cpuid_count(7, 0).edx & LEAF_7_EDX != LEAF_7_EDX {
        return false;
    }
    // SAFETY: the call takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn present() -> bool {
    false
}

/// What the processor is told of the tiles' shapes: Intel's manual, volume 1, 18.3.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// All eight tiles at their largest.
static SHAPES: Shapes = Shapes {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// The sums of a tile of 32 rows and a panel.
#[repr(C, align(64))]
struct Sums([[i32; PANEL]; TILE_ROWS]);

/// # Safety
///
/// Tiles are permitted, and the lengths are those that `Kernel::multiply_bytes` checks.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn bytes(product: &ByteProduct<'_>, output: Output<'_>) {
    // SAFETY: the shapes are valid for palette 1, and tiles are permitted.
    unsafe { asm!("ldtilecfg [{}]", in(reg) ptr::from_ref(&SHAPES), options(nostack, readonly)) };
    let stride = product.rows.stride;
    let blocks = product.panels.depth / BYTES_ALIGNED;
    let mut sums = Sums([[0; PANEL]; TILE_ROWS]);
    let shape = (product.count, product.panels.columns);
    each_tile(shape, (TILE_ROWS, TILE_ROWS), output, |first, tile_rows, panel, out, out_stride| {
        let rows = product.rows.bytes[first * stride..].as_ptr();
        let panel_quads = product.panels.panel(panel).as_ptr();
        // SAFETY: `ByteRows` has 32 rows beyond the last, each of `blocks` times 64 bytes; the panel has 16 quads for
        // each block; `sums` has room for four tiles.
        unsafe {
            if tile_rows > TILE_ROWS / 2 {
                multiply_32(rows, stride, panel_quads, blocks, &mut sums);
            } else {
                multiply_16(rows, stride, panel_quads, blocks, &mut sums);
            }
        }
        for half in 0..2 {
            let finish = Finish::new(product, panel * PANEL + half * 16);
            for (row, sums) in sums.0.iter().take(tile_rows).enumerate() {
                // SAFETY: both halves lie within the row's 32 sums, and each row of the output has room for a panel.
                unsafe {
                    let sums = _mm512_loadu_si512(sums.as_ptr().add(half * 16).cast::<__m512i>());
                    let value = finish.number(product, first + row, sums);
                    _mm512_storeu_ps(out.add(row * out_stride + half * 16), value);
                }
            }
        }
    });
    // SAFETY: gives the tiles back, so that a change of threads need not save them.
    unsafe { asm!("tilerelease", options(nomem, nostack)) };
}

/// Two tiles of rows by two of weights.
///
/// # Safety
///
/// Tiles are configured; `rows` has 32 rows of `blocks` times 64 bytes, `quads` 16 quads for each block.
unsafe fn multiply_32(rows: *const u8, stride: usize, quads: *const Quad, blocks: usize, sums: &mut Sums) {
    // SAFETY: as the caller promises; the results are 32 rows of 128 bytes, which `sums` has.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{upper} + {stride}*1]",
            "tileloadd tmm6, [{quads} + {quad}*1]",
            "tileloadd tmm5, [{lower} + {stride}*1]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{quads} + {quad}*1 + 64]",
            "tdpbusd tmm2, tmm5, tmm6",
            "tdpbusd tmm1, tmm4, tmm7",
            "tdpbusd tmm3, tmm5, tmm7",
            "add {upper}, 64",
            "add {lower}, 64",
            "add {quads}, 2048",
            "dec {blocks}",
            "jnz 2b",
            "tilestored [{sums} + {quad}*1], tmm0",
            "tilestored [{sums} + {quad}*1 + 64], tmm1",
            "tilestored [{sums} + {quad}*1 + 2048], tmm2",
            "tilestored [{sums} + {quad}*1 + 2112], tmm3",
            upper = inout(reg) rows => _,
            lower = inout(reg) rows.add(16 * stride) => _,
            quads = inout(reg) quads => _,
            blocks = inout(reg) blocks => _,
            stride = in(reg) stride,
            quad = in(reg) QUAD_BYTES,
            sums = in(reg) ptr::from_mut(sums),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// One tile of rows by two of weights.
///
/// # Safety
///
/// Tiles are configured; `rows` has 16 rows of `blocks` times 64 bytes, `quads` 16 quads for each block.
unsafe fn multiply_16(rows: *const u8, stride: usize, quads: *const Quad, blocks: usize, sums: &mut Sums) {
    // SAFETY: as the caller promises; the results are 16 rows of 128 bytes, which `sums` has.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "2:",
            "tileloadd tmm4, [{rows} + {stride}*1]",
            "tileloadd tmm6, [{quads} + {quad}*1]",
            "tileloadd tmm7, [{quads} + {quad}*1 + 64]",
            "tdpbusd tmm0, tmm4, tmm6",
            "tdpbusd tmm1, tmm4, tmm7",
            "add {rows}, 64",
            "add {quads}, 2048",
            "dec {blocks}",
            "jnz 2b",
            "tilestored [{sums} + {quad}*1], tmm0",
            "tilestored [{sums} + {quad}*1 + 64], tmm1",
            rows = inout(reg) rows => _,
            quads = inout(reg) quads => _,
            blocks = inout(reg) blocks => _,
            stride = in(reg) stride,
            quad = in(reg) QUAD_BYTES,
            sums = in(reg) ptr::from_mut(sums),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
