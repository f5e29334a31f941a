//! Large buffers that are reused.
//!
//! A new buffer costs page faults: the kernel clears each page at its first use, which takes longer
//! than copying the message. So a free buffer is kept for the next message.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The allocator itself keeps smaller ones.
const SMALLEST: usize = 64 << 10;
/// Most buffers and bytes that are kept. An observation of three raw 640x480 images takes 2.8 MB, and
/// each of many clients has one under way.
const MOST_BUFFERS: usize = 64;
const MOST_BYTES: usize = 32 << 20;

static SHELF: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

/// A free buffer.
struct Kept {
    bytes: Vec<u8>,
    since: Instant,
}

impl Kept {
    fn size(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Give the memory of buffers that were not used for `time` back to the allocator.
pub fn release_unused(time: Duration) {
    let now = Instant::now();
    let is_fresh = |kept: &Kept| now.saturating_duration_since(kept.since) < time;
    let mut shelf = shelf();
    let (fresh, old) = std::mem::take(&mut *shelf).into_iter().partition(is_fresh);
    *shelf = fresh;
    drop(shelf);
    drop::<Vec<Kept>>(old);
}

fn shelf() -> MutexGuard<'static, Vec<Kept>> {
    SHELF.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes whose memory is reused after a drop.
#[derive(Default, Clone, PartialEq, Eq)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty buffer with room for `capacity` bytes, or up to twice as much.
    pub fn with_capacity(capacity: usize) -> Self {
        if capacity < SMALLEST {
            return Self(Vec::with_capacity(capacity));
        }
        let mut shelf = shelf();
        let fits = |kept: &Kept| (capacity..=2 * capacity).contains(&kept.bytes.capacity());
        let kept = match shelf.iter().rposition(fits) {
            Some(place) => shelf.remove(place).bytes,
            None => {
                drop(shelf);
                Vec::with_capacity(capacity)
            }
        };
        Self(kept)
    }

    /// Make room for `more` bytes, in a kept buffer if one fits.
    pub fn reserve(&mut self, more: usize) {
        if self.0.capacity() - self.0.len() < more {
            let mut larger = Self::with_capacity(self.0.len() + more);
            larger.0.extend_from_slice(&self.0);
            *self = larger;
        }
    }

    /// Take the bytes; their memory goes back to the allocator.
    pub fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.capacity() < SMALLEST || self.0.capacity() > MOST_BYTES {
            return;
        }
        let mut bytes = std::mem::take(&mut self.0);
        bytes.clear();
        let mut shelf = shelf();
        let since = Instant::now();
        shelf.push(Kept { bytes, since });
        let held = |shelf: &[Kept]| shelf.iter().map(Kept::size).sum::<usize>();
        while shelf.len() > MOST_BUFFERS || held(&shelf) > MOST_BYTES {
            // The oldest.
            shelf.remove(0);
        }
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl PartialEq<[u8]> for Buffer {
    fn eq(&self, other: &[u8]) -> bool {
        self.0 == other
    }
}

impl PartialEq<Vec<u8>> for Buffer {
    fn eq(&self, other: &Vec<u8>) -> bool {
        self.0 == *other
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Buffer {
    fn eq(&self, other: &[u8; N]) -> bool {
        self.0 == other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Buffer {
    fn eq(&self, other: &&[u8; N]) -> bool {
        self.0 == *other
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All tests of this process share the kept buffers; tests that look at them take turns.
    static TURN: Mutex<()> = Mutex::new(());

    fn turn() -> MutexGuard<'static, ()> {
        TURN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let _turn = turn();
        let first = Buffer::with_capacity(20_000_001);
        let place = first.as_ptr();
        drop(first);
        let again = Buffer::with_capacity(20_000_000);
        assert_eq!(again.as_ptr(), place);
        assert!(again.is_empty());
    }

    #[test]
    fn a_small_message_does_not_hold_a_large_buffer() {
        drop(Buffer::with_capacity(9_000_000));
        assert!(Buffer::with_capacity(70_000).capacity() <= 140_000);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let _turn = turn();
        let many: Vec<Buffer> = (0..40).map(|_| Buffer::with_capacity(5_000_000)).collect();
        drop(many);
        let shelf = shelf();
        assert!(shelf.len() <= MOST_BUFFERS);
        assert!(shelf.iter().map(Kept::size).sum::<usize>() <= MOST_BYTES);
    }

    #[test]
    fn a_buffer_that_is_not_used_for_a_while_goes_back_to_the_system() {
        let _turn = turn();
        drop(Buffer::with_capacity(7_000_000));
        let is_kept = || shelf().iter().any(|kept| kept.size() == 7_000_000);
        release_unused(Duration::from_secs(3600));
        assert!(is_kept());
        release_unused(Duration::ZERO);
        assert!(!is_kept());
    }

    #[test]
    fn growing_keeps_what_was_there() {
        let mut buffer = Buffer::from(vec![1, 2, 3]);
        buffer.reserve(100_000);
        assert!(buffer.capacity() >= 100_003);
        assert_eq!(buffer, [1, 2, 3]);
    }
}
