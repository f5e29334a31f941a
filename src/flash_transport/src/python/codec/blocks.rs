//! The large blocks of a message: they stay in Python objects until the size of the message is
//! known.
//!
//! The head is the message without its blocks; each block has its position in the head.

use std::ptr;

use bytes::Bytes;
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::arrays::{byte_length, copy_strided, data_of};
use crate::buffers::Buffer;
use crate::python::errors;

/// Data of at least this many bytes becomes a block.
pub const BLOCK_BYTES: usize = 1024;

/// The blocks of one message, in the order of their positions.
#[derive(Default)]
pub struct Blocks<'py> {
    blocks: Vec<Block<'py>>,
    bytes: usize,
}

struct Block<'py> {
    /// Its position in `head`.
    at: usize,
    length: usize,
    source: Source<'py>,
}

/// The object that holds a block's memory.
pub enum Source<'py> {
    Bytes(Bound<'py, PyBytes>),
    Array(Bound<'py, PyUntypedArray>),
}

impl<'py> Blocks<'py> {
    /// Add a block of `length` bytes at position `at` of the head.
    pub fn push(&mut self, at: usize, length: usize, source: Source<'py>) {
        self.bytes += length;
        self.blocks.push(Block { at, length, source });
    }

    /// Total size of the blocks.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// `prefix`, then `head` with the blocks inserted, in parts; large blocks are not copied.
    pub fn lend_in(&self, py: Python<'py>, prefix: u8, head: &[u8]) -> PyResult<Vec<Bytes>> {
        let mut parts = Vec::with_capacity(2 * self.blocks.len() + 1);
        let mut near = Buffer::from(vec![prefix]);
        let mut written = 0;
        for block in &self.blocks {
            near.extend_from_slice(&head[written..block.at]);
            written = block.at;
            block.check()?;
            if let Some(lent) = block.lend() {
                parts.push(Bytes::from_owner(std::mem::take(&mut near)));
                parts.push(Bytes::from_owner(lent));
                continue;
            }
            near.reserve(block.length);
            let start = near.len();
            // SAFETY: the capacity for the block was just reserved, and `copy_to` writes all of it
            // or fails.
            unsafe {
                block.copy_to(py, near.as_mut_ptr().add(start))?;
                near.set_len(start + block.length);
            }
        }
        near.extend_from_slice(&head[written..]);
        parts.push(Bytes::from_owner(near));
        Ok(parts)
    }

    /// Write `head` with the blocks inserted to `out`.
    ///
    /// # Safety
    /// `out` must be valid for writes of `head.len() + self.bytes()` bytes, and nothing else may
    /// access them.
    pub unsafe fn write_in(
        &self,
        py: Python<'py>,
        mut head: &[u8],
        mut out: *mut u8,
    ) -> PyResult<()> {
        let mut written = 0;
        for block in &self.blocks {
            let (before, after) = head.split_at(block.at - written);
            head = after;
            written = block.at;
            // SAFETY: head and blocks fill `out` exactly, and `copy_to` writes the block's length.
            unsafe {
                ptr::copy_nonoverlapping(before.as_ptr(), out, before.len());
                out = out.add(before.len());
                block.copy_to(py, out)?;
                out = out.add(block.length);
            }
        }
        // SAFETY: as above; the last part of the head.
        unsafe { ptr::copy_nonoverlapping(head.as_ptr(), out, head.len()) };
        Ok(())
    }
}

impl<'py> Block<'py> {
    /// Whether the object still has the length that was measured.
    fn check(&self) -> PyResult<()> {
        match &self.source {
            Source::Array(array)
                if byte_length(array) != self.length || array.dtype().has_object() =>
            {
                Err(errors::CodecError::new_err(
                    "an array changed its size or dtype while it was packed",
                ))
            }
            _ => Ok(()),
        }
    }

    /// The block's memory, if it is large and contiguous.
    fn lend(&self) -> Option<Lent> {
        if self.length < LENT_BYTES {
            return None;
        }
        let (owner, start) = match &self.source {
            Source::Bytes(bytes) => (bytes.as_any(), bytes.as_bytes().as_ptr()),
            Source::Array(array) if array.is_c_contiguous() => (array.as_any(), data_of(array)),
            Source::Array(_) => return None,
        };
        Some(Lent {
            _owner: owner.clone().unbind(),
            start,
            length: self.length,
        })
    }

    /// # Safety
    /// `out` must be valid for writes of `self.length` bytes, and nothing else may access them.
    unsafe fn copy_to(&self, py: Python<'py>, out: *mut u8) -> PyResult<()> {
        match &self.source {
            Source::Bytes(bytes) => {
                let bytes = bytes.as_bytes();
                debug_assert_eq!(bytes.len(), self.length);
                // SAFETY: bytes objects are immutable, so the measured length still holds.
                unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), out, self.length) };
                Ok(())
            }
            Source::Array(array) => {
                self.check()?;
                if array.is_c_contiguous() {
                    // SAFETY: the array is contiguous and, as just checked, as long as `out`.
                    unsafe { ptr::copy_nonoverlapping(data_of(array), out, self.length) };
                    return Ok(());
                }
                // SAFETY: `out` is as long as the array, as just checked.
                unsafe { copy_strided(py, array, out) }
            }
        }
    }
}

/// The memory of a Python object, kept alive.
struct Lent {
    _owner: Py<PyAny>,
    start: *const u8,
    length: usize,
}

// SAFETY: the memory belongs to `_owner`, which may be dropped on any thread; numpy neither moves
// nor frees the data of a referenced array.
unsafe impl Send for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: as above. Python code may write there meanwhile, as with any memory passed to a
        // system call: the bytes are only copied, by the kernel or into a packet, and nothing
        // depends on them.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

/// Smaller blocks are copied: a part of their own would cost more.
const LENT_BYTES: usize = 16 << 10;
