//! Memory for large blocks, which goes back to the system when it is free.
//!
//! glibc takes blocks from 128 KiB on from the system one by one, but from larger and larger ones
//! only after the first of them was freed (`mallopt(3)`, dynamic mmap threshold). The others lie in
//! the arena of their thread, whose end no call gives back: what clients once made a server hold, it
//! would hold for ever. [`crate::buffers`] keeps what is used again and again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

/// Bytes from which on a block is a mapping of its own.
const SMALLEST: usize = 128 << 10;
/// Mappings begin at a page, whose size is at least this.
const LARGEST_ALIGNMENT: usize = 4 << 10;

/// The system's allocator, with a mapping for each large block.
pub struct LargeBlocks;

fn is_large(size: usize, alignment: usize) -> bool {
    size >= SMALLEST && alignment <= LARGEST_ALIGNMENT
}

/// A mapping of `size` bytes, all zero; null if the system has none.
fn map(size: usize) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: the system chooses the place, so that no other memory is touched.
    let place = unsafe { libc::mmap(ptr::null_mut(), size, access, kind, -1, 0) };
    match place {
        libc::MAP_FAILED => ptr::null_mut(),
        place => place.cast(),
    }
}

// SAFETY: whether a block is a mapping follows from its layout alone, and a caller gives the layout of
// the block with it. A mapping is as long as its layout says, aligned to a page, and belongs to nobody
// else until it is unmapped.
unsafe impl GlobalAlloc for LargeBlocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout.size(), layout.align()) {
            return map(layout.size());
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout.size(), layout.align()) {
            return map(layout.size());
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_large(layout.size(), layout.align()) {
            // SAFETY: `map` made it with this size; what fails leaves it as it is.
            unsafe { libc::munmap(block.cast(), layout.size()) };
            return;
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let was_large = is_large(layout.size(), layout.align());
        let will_be_large = is_large(new_size, layout.align());
        if was_large && will_be_large {
            let flags = libc::MREMAP_MAYMOVE;
            // SAFETY: `map` made it with this size. Its pages move, and nobody else has their place.
            let place = unsafe { libc::mremap(block.cast(), layout.size(), new_size, flags) };
            return match place {
                libc::MAP_FAILED => ptr::null_mut(),
                place => place.cast(),
            };
        }
        if !was_large && !will_be_large {
            // SAFETY: as the caller promises.
            return unsafe { System.realloc(block, layout, new_size) };
        }
        // SAFETY: the caller promises that the new size is one of a layout with this alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: the new block is apart from the old one, and both have the smaller of both sizes.
        unsafe {
            let new = self.alloc(new_layout);
            if !new.is_null() {
                ptr::copy_nonoverlapping(block, new, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}
