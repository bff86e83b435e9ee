//! Memory that a device owns: zeroed bytes at a 64-byte boundary, reached through raw addresses.
#![allow(unsafe_code, reason = "device memory is written by several threads at places that a schedule keeps apart")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Start of a cache line, and of the widest vector.
const ALIGNMENT: usize = 64;

/// A block of memory, allocated once. The system hands out its pages when they are first written.
#[derive(Debug)]
pub(super) struct Block {
    allocation: NonNull<u8>,
    layout: Layout,
    start: NonNull<u8>,
    num_bytes: usize,
}

// SAFETY: a block is owned bytes without references; whoever reads or writes through its address vouches for order.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    /// `None` when the system has no such block.
    pub(super) fn zeroed(num_bytes: usize) -> Option<Self> {
        // Asking for no alignment lets the allocator pass on the system's untouched zero pages.
        let layout = Layout::array::<u8>(num_bytes.checked_add(ALIGNMENT)?).ok()?;
        // SAFETY: the layout is not empty.
        let allocation = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let shift = allocation.as_ptr().align_offset(ALIGNMENT);
        // SAFETY: `shift < ALIGNMENT`, and the allocation is that much longer than `num_bytes`.
        let start = unsafe { allocation.add(shift) };
        Some(Self { allocation, layout, start, num_bytes })
    }

    pub(super) fn num_bytes(&self) -> usize {
        self.num_bytes
    }

    /// The first byte.
    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Fills the block with f32 NaN, so that a read before the first write shows.
    pub(super) fn poison(&mut self) {
        // SAFETY: the block is this value's own, and exclusively borrowed.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.start(), self.num_bytes) };
        bytes.fill(0xFF);
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated by `zeroed` with this layout.
        unsafe { dealloc(self.allocation.as_ptr(), self.layout) }
    }
}
