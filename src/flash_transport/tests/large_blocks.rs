//! What a server has held goes back to the system. One test: it looks at the memory of the whole process.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

use std::alloc::{GlobalAlloc, Layout};

use flash_transport::large_blocks::LargeBlocks;

#[cfg_attr(not(feature = "python"), global_allocator)]
#[cfg_attr(
    feature = "python",
    allow(dead_code, reason = "the library has one of its own")
)]
static ALLOCATOR: LargeBlocks = LargeBlocks;

const MB: usize = 1 << 20;

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Bytes of which each is known by its place.
fn pattern(size: usize) -> impl Iterator<Item = u8> {
    (0..size).map(|place| (place % 251) as u8)
}

fn blocks_keep_their_bytes_while_they_grow_and_shrink() {
    let mut bytes = Vec::new();
    for size in [1000, 100_000, 200_000, 5_000_000, 140_000, 100_000, 300_000] {
        bytes.truncate(size);
        bytes.shrink_to_fit();
        let missing = pattern(size).skip(bytes.len());
        bytes.extend(missing);
        assert!(bytes.iter().copied().eq(pattern(size)));
    }
    assert!(vec![0u8; 3 * MB].iter().all(|byte| *byte == 0));
}

fn alignments_beyond_a_page_are_kept() {
    let layout = Layout::from_size_align(MB, 1 << 16).unwrap();
    // SAFETY: the block is freed with its own layout, and not used in between.
    unsafe {
        let block = LargeBlocks.alloc(layout);
        assert_eq!(block as usize % (1 << 16), 0);
        LargeBlocks.dealloc(block, layout);
    }
}

#[test]
fn what_was_freed_is_the_systems_again_whatever_was_freed_before() {
    // A server's threads are not the main one, which is better off: glibc gives back the end of its heap.
    std::thread::spawn(|| {
        blocks_keep_their_bytes_while_they_grow_and_shrink();
        alignments_beyond_a_page_are_kept();
        // After this glibc would keep blocks of up to 32 MB.
        drop(vec![1u8; 32 * MB - 4096]);
        let before = resident_bytes();
        let mut held: Vec<Vec<u8>> = (0..100).map(|_| vec![1; MB]).collect();
        // Something small at the end of the heap, which lives on.
        let last = vec![1u8; 1000];
        assert!(resident_bytes() > before + 90 * MB);
        held.clear();
        let after = resident_bytes();
        assert!(
            after < before + 5 * MB,
            "{before} bytes before, {after} after"
        );
        drop(last);
    })
    .join()
    .unwrap();
}
