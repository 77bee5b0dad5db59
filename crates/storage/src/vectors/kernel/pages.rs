//! Memory for rows: aligned to cache lines, and large buffers to huge pages.
//!
//! A graph walk jumps between rows all over a hundred megabytes. On pages of 4 KiB each jump
//! misses the address cache as well, which costs more than the data; asked for huge pages, the
//! same walks took a fifth less time. Owns the allocation and nothing else.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    ptr::NonNull,
    slice,
};

use half::f16;

/// What x86-64 and most of aarch64 call a huge page.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Rows begin at multiples of this.
const CACHE_LINE_BYTES: usize = 64;

/// A growable array of halves.
pub(in crate::vectors) struct RowBuffer {
    /// Dangling while nothing is allocated.
    start: NonNull<f16>,
    /// Halves in use.
    length: usize,
    /// Halves allocated, all of them initialised.
    capacity: usize,
}

// SAFETY: the buffer owns its memory alone, and halves are plain numbers.
unsafe impl Send for RowBuffer {}
// SAFETY: shared references only read.
unsafe impl Sync for RowBuffer {}

impl RowBuffer {
    /// An empty buffer with room for so many halves.
    pub(in crate::vectors) fn with_capacity(halves: usize) -> Self {
        let Some(layout) = layout(halves) else {
            return Self { start: NonNull::dangling(), length: 0, capacity: 0 };
        };
        // SAFETY: the layout's size is not zero. Zeroed bytes are halves of value zero.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }.cast::<f16>()) else {
            handle_alloc_error(layout)
        };
        advise(start, layout);
        Self { start, length: 0, capacity: halves }
    }

    /// So many halves of value zero.
    pub(in crate::vectors) fn zeroed(halves: usize) -> Self {
        let mut buffer = Self::with_capacity(halves);
        buffer.length = buffer.capacity;
        buffer
    }

    /// The halves in use.
    #[inline]
    pub(in crate::vectors) fn as_slice(&self) -> &[f16] {
        // SAFETY: `length` never exceeds `capacity`, all of which is allocated and initialised;
        // while nothing is, the length is zero and the pointer dangles, which a slice may.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// The halves in use, for writing.
    pub(in crate::vectors) fn as_mut_slice(&mut self) -> &mut [f16] {
        // SAFETY: as in `as_slice`, and this reference is the only one.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    /// Appends; a buffer that is full doubles, up to `most` halves and beyond that as needed.
    pub(in crate::vectors) fn extend(&mut self, halves: &[f16], most: usize) {
        let needed = self.length + halves.len();
        if needed > self.capacity {
            let mut larger = Self::with_capacity(needed.max((2 * self.capacity).min(most)));
            larger.length = self.length;
            larger.as_mut_slice().copy_from_slice(self.as_slice());
            *self = larger;
        }
        let old = self.length;
        self.length = needed;
        self.as_mut_slice()[old..].copy_from_slice(halves);
    }

    /// Bytes allocated.
    pub(in crate::vectors) fn allocated_bytes(&self) -> usize {
        layout(self.capacity).map_or(0, |layout| layout.size())
    }
}

impl Default for RowBuffer {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Clone for RowBuffer {
    fn clone(&self) -> Self {
        let mut copy = Self::with_capacity(self.capacity);
        copy.extend(self.as_slice(), self.capacity);
        copy
    }
}

impl Drop for RowBuffer {
    fn drop(&mut self) {
        if let Some(layout) = layout(self.capacity) {
            // SAFETY: `start` was allocated with the layout of this very capacity.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) };
        }
    }
}

/// How so many halves are laid out; none for none, and for more than there can be.
fn layout(halves: usize) -> Option<Layout> {
    let bytes = halves.checked_mul(size_of::<f16>()).filter(|bytes| *bytes > 0)?;
    // Rounding up what is nearly a huge page wastes little.
    let huge = bytes > HUGE_PAGE_BYTES / 8 * 7;
    let align = if huge { HUGE_PAGE_BYTES } else { CACHE_LINE_BYTES };
    Layout::from_size_align(bytes.checked_next_multiple_of(align)?, align).ok()
}

#[cfg(target_os = "linux")]
fn advise(start: NonNull<f16>, layout: Layout) {
    if layout.align() == HUGE_PAGE_BYTES {
        // SAFETY: the range is memory of this process, whole pages of it, and the advice changes
        // nothing but how they are mapped. Whether it is taken does not matter.
        unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_start: NonNull<f16>, _layout: Layout) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_copies_and_stays_aligned() {
        for most in [0, 1000, 3 << 20] {
            let mut model = Vec::new();
            let mut buffer = RowBuffer::default();
            assert_eq!(buffer.allocated_bytes(), 0);
            for step in 0..300u16 {
                let part: Vec<f16> = (0..usize::from(step) * 41 % 7000).map(|_| f16::from_bits(step)).collect();
                model.extend_from_slice(&part);
                buffer.extend(&part, most);
                assert!(buffer.as_slice() == model);
                assert_eq!(buffer.as_slice().as_ptr() as usize % if model.is_empty() { 2 } else { 64 }, 0);
            }
            let mut copy = buffer.clone();
            copy.as_mut_slice()[0] = f16::MAX;
            assert!(buffer.as_slice() == model && copy.as_slice()[1..] == model[1..]);
            assert!(buffer.allocated_bytes() >= 2 * model.len());
        }
    }
}
