//! Python objects to msgpack.
//!
//! Encoding goes in two steps, so that the data of an array is copied once, into memory of the right size:
//! the walk over the objects writes all but the large blocks, and `write_into` puts the two together.

use std::ptr;

use bytes::Bytes;
use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PyString, PyTuple,
};

use super::arrays::{byte_length, copy_strided, data_of, dtype_text, is_exact, is_numpy_scalar};
use super::failure::Failure;
use crate::buffers::Buffer;
use crate::codec::{CodecError, Limits, Writer, MAX_DIMS};
use crate::python::errors;

/// Encode `value` as one msgpack message.
pub fn encode(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    encode_after(py, &[], value).map(Buffer::into_vec)
}

/// As [`encode`], with `prefix` as the first byte of the result.
pub fn encode_with_prefix(
    py: Python<'_>,
    prefix: u8,
    value: &Bound<'_, PyAny>,
) -> PyResult<Vec<u8>> {
    encode_after(py, &[prefix], value).map(Buffer::into_vec)
}

/// What becomes of large arrays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Arrays {
    /// The message has its own copy; the caller may change them afterwards.
    Copied,
    /// The message's parts are the arrays' own memory, which lives as long as they do. What somebody writes there before the
    /// message is sent is sent.
    Lent,
}

/// Encode `dict` as one msgpack message in parts, with `prefix` as its first byte. With a `key` the map goes on with that, and
/// the caller is to append its value.
pub fn encode_parts(
    py: Python<'_>,
    prefix: u8,
    dict: &Bound<'_, PyDict>,
    key: Option<&str>,
    arrays: Arrays,
) -> PyResult<Vec<Bytes>> {
    let mut message = Message::default();
    message.nested(|message| message.dict_and_key(dict, key))?;
    match arrays {
        Arrays::Lent => message.lend_after(py, prefix),
        Arrays::Copied => {
            let whole = message.write_after(py, &[prefix])?;
            Ok(vec![Bytes::from_owner(whole)])
        }
    }
}

/// As [`encode`], into a Python object.
pub(super) fn encode_to_bytes<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = value.py();
    let message = Message::of(value)?;
    let size = ffi::Py_ssize_t::try_from(message.len())?;
    // SAFETY: a null pointer asks for a bytes object that is not initialised. Nobody else has seen it yet, which
    // is when CPython allows to write its `size` bytes, and `write_into` writes all of them or fails.
    unsafe {
        let bytes =
            Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(ptr::null(), size))?
                .cast_into_unchecked::<PyBytes>();
        message.write_into(py, ffi::PyBytes_AsString(bytes.as_ptr()).cast())?;
        Ok(bytes)
    }
}

fn encode_after(py: Python<'_>, prefix: &[u8], value: &Bound<'_, PyAny>) -> PyResult<Buffer> {
    Message::of(value)?.write_after(py, prefix)
}

/// Data of at least this many bytes is left where it is until the size of the message is known.
const BLOCK_BYTES: usize = 1024;

/// A message whose large blocks still lie in Python objects.
#[derive(Default)]
struct Message<'py> {
    head: Writer,
    blocks: Vec<Block<'py>>,
    block_bytes: usize,
    depth: usize,
}

struct Block<'py> {
    /// Where in `head` it belongs.
    at: usize,
    length: usize,
    source: Source<'py>,
}

enum Source<'py> {
    Bytes(Bound<'py, PyBytes>),
    Array(Bound<'py, PyUntypedArray>),
}

impl<'py> Message<'py> {
    fn of(value: &Bound<'py, PyAny>) -> PyResult<Self> {
        let mut message = Message::default();
        message.value(value)?;
        Ok(message)
    }

    fn len(&self) -> usize {
        self.head.len() + self.block_bytes
    }

    /// The message in parts, of which the large ones stay where they are.
    fn lend_after(&self, py: Python<'py>, prefix: u8) -> PyResult<Vec<Bytes>> {
        let mut parts = Vec::with_capacity(2 * self.blocks.len() + 1);
        let mut near = Buffer::from(vec![prefix]);
        let head = self.head.as_slice();
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
            // SAFETY: the room for the block was just made, and all of it is written when `copy_to` succeeds.
            unsafe {
                block.copy_to(py, near.as_mut_ptr().add(start))?;
                near.set_len(start + block.length);
            }
        }
        near.extend_from_slice(&head[written..]);
        parts.push(Bytes::from_owner(near));
        Ok(parts)
    }

    fn write_after(&self, py: Python<'py>, prefix: &[u8]) -> PyResult<Buffer> {
        let mut out = Buffer::with_capacity(prefix.len() + self.len());
        out.extend_from_slice(prefix);
        // SAFETY: `self.len()` bytes of capacity are left, and all of them are written when `write_into` succeeds.
        unsafe {
            self.write_into(py, out.as_mut_ptr().add(prefix.len()))?;
            out.set_len(prefix.len() + self.len());
        }
        Ok(out)
    }

    /// Write the message to `out`.
    ///
    /// # Safety
    /// `out` must be valid for writes of `self.len()` bytes, and nobody else may look at them.
    unsafe fn write_into(&self, py: Python<'py>, mut out: *mut u8) -> PyResult<()> {
        let mut head = self.head.as_slice();
        let mut written = 0;
        for block in &self.blocks {
            let (before, after) = head.split_at(block.at - written);
            head = after;
            written = block.at;
            // SAFETY: the head and the blocks add up to `self.len()`, and `copy_block` keeps to the block's length.
            unsafe {
                ptr::copy_nonoverlapping(before.as_ptr(), out, before.len());
                out = out.add(before.len());
                block.copy_to(py, out)?;
                out = out.add(block.length);
            }
        }
        // SAFETY: as above; this is the rest of the head.
        unsafe { ptr::copy_nonoverlapping(head.as_ptr(), out, head.len()) };
        Ok(())
    }

    fn value(&mut self, value: &Bound<'py, PyAny>) -> Result<(), Failure> {
        // the most frequent first; bool is an int to Python, so it comes before
        if let Ok(text) = value.cast::<PyString>() {
            self.head.text(utf8(text)?)?;
        } else if let Ok(value) = value.cast::<PyFloat>() {
            self.head.float(value.value());
        } else if let Ok(value) = value.cast::<PyBool>() {
            self.head.bool(value.is_true());
        } else if let Ok(value) = value.cast::<PyInt>() {
            self.int(value)?;
        } else if value.is_none() {
            self.head.nil();
        } else if let Ok(dict) = value.cast::<PyDict>() {
            self.nested(|message| message.dict(dict))?;
        } else if let Ok(array) = value.cast::<PyUntypedArray>() {
            self.array(array)?;
        } else if let Ok(bytes) = value.cast::<PyBytes>() {
            self.bytes(bytes)?;
        } else if let Ok(list) = value.cast::<PyList>() {
            self.nested(|message| message.sequence(list.len(), |index| list.get_item(index)))?;
        } else if let Ok(tuple) = value.cast::<PyTuple>() {
            self.nested(|message| message.sequence(tuple.len(), |index| tuple.get_item(index)))?;
        } else if let Ok(bytes) = value.cast::<PyByteArray>() {
            self.head.bytes(&bytes.to_vec())?;
        } else if value.is_instance_of::<PyMemoryView>() {
            let bytes = value.call_method0("tobytes")?;
            self.bytes(bytes.cast::<PyBytes>().map_err(PyErr::from)?)?;
        } else if is_numpy_scalar(value) {
            self.scalar(value)?;
        } else {
            return Err(Failure::refused(format!(
                "{} is not supported, convert it to a numpy array or a plain Python value",
                value.get_type().fully_qualified_name()?
            )));
        }
        Ok(())
    }

    fn nested(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let limit = Limits::DEFAULT.depth;
        if self.depth >= limit {
            return Err(CodecError::NestingOverLimit { limit }.into());
        }
        self.depth += 1;
        write(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn dict(&mut self, dict: &Bound<'py, PyDict>) -> Result<(), Failure> {
        self.dict_and_key(dict, None)
    }

    /// A map that ends with `key`, whose value is still to come.
    fn dict_and_key(
        &mut self,
        dict: &Bound<'py, PyDict>,
        key: Option<&str>,
    ) -> Result<(), Failure> {
        // a copy of the items: other threads may change the dict while Python code of a value runs
        let items = dict.items();
        self.head
            .map_header(items.len() + usize::from(key.is_some()))?;
        for item in &items {
            let (key, value) = item.extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>)>()?;
            if let Ok(text) = key.cast::<PyString>() {
                self.head.text(utf8(text)?)?;
            } else if let Ok(bytes) = key.cast::<PyBytes>() {
                self.head.bytes(bytes.as_bytes())?;
            } else {
                return Err(Failure::refused(format!(
                    "map key {} is {}, expected str or bytes",
                    key.repr()?,
                    key.get_type().fully_qualified_name()?
                )));
            }
            self.value(&value).map_err(|failure| failure.at(&key))?;
        }
        if let Some(key) = key {
            self.head.text(key)?;
        }
        Ok(())
    }

    fn sequence(
        &mut self,
        length: usize,
        item: impl Fn(usize) -> PyResult<Bound<'py, PyAny>>,
    ) -> Result<(), Failure> {
        self.head.list_header(length)?;
        for index in 0..length {
            self.value(&item(index)?)
                .map_err(|failure| failure.at_index(index))?;
        }
        Ok(())
    }

    fn int(&mut self, value: &Bound<'py, PyInt>) -> Result<(), Failure> {
        if let Ok(value) = value.extract::<i64>() {
            self.head.signed(value);
        } else if let Ok(value) = value.extract::<u64>() {
            self.head.unsigned(value);
        } else {
            return Err(Failure::refused(
                "integer does not fit into 64 bits".to_owned(),
            ));
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &Bound<'py, PyBytes>) -> Result<(), Failure> {
        let length = bytes.as_bytes().len();
        self.head.bytes_header(length)?;
        self.data(length, || Source::Bytes(bytes.clone()), bytes.as_bytes());
        Ok(())
    }

    fn array(&mut self, array: &Bound<'py, PyUntypedArray>) -> Result<(), Failure> {
        let dtype = dtype_text(&array.dtype())?;
        if array.ndim() > MAX_DIMS {
            return Err(Failure::refused(format!(
                "array has {} dimensions, at most {MAX_DIMS} are supported",
                array.ndim()
            )));
        }
        let length = byte_length(array);
        self.head.array_head(length)?;
        if !is_exact(array) {
            // a subclass has the last word on its bytes (a masked array fills its holes)
            let bytes = array.call_method0("tobytes")?;
            let bytes = bytes.cast::<PyBytes>().map_err(PyErr::from)?;
            if bytes.as_bytes().len() != length {
                return Err(Failure::refused(format!(
                    "{}.tobytes() gave {} bytes, expected {length}",
                    array.get_type().fully_qualified_name()?,
                    bytes.as_bytes().len(),
                )));
            }
            self.data(length, || Source::Bytes(bytes.clone()), bytes.as_bytes());
        } else if array.is_c_contiguous() && length < BLOCK_BYTES {
            // SAFETY: the array is contiguous and `length` bytes long, and no Python code runs before they are copied.
            let bytes = unsafe { std::slice::from_raw_parts(data_of(array), length) };
            self.head.raw(bytes);
        } else {
            self.block(length, Source::Array(array.clone()));
        }
        self.head.array_tail(&dtype, array.shape())?;
        Ok(())
    }

    fn scalar(&mut self, scalar: &Bound<'py, PyAny>) -> Result<(), Failure> {
        let dtype = scalar.getattr("dtype")?;
        let text = dtype_text(dtype.cast::<PyArrayDescr>().map_err(PyErr::from)?)?;
        let item = scalar.call_method0("item")?;
        self.head.scalar_head()?;
        if item.is_none() {
            self.head.nil();
        } else if let Ok(value) = item.cast::<PyBool>() {
            self.head.bool(value.is_true());
        } else if let Ok(value) = item.cast::<PyInt>() {
            self.int(value)?;
        } else if let Ok(value) = item.cast::<PyFloat>() {
            self.head.float(value.value());
        } else {
            return Err(Failure::refused(format!(
                "a numpy scalar of dtype {dtype} has no plain value, convert it to a numpy array"
            )));
        }
        self.head.scalar_tail(&text)?;
        Ok(())
    }

    fn data(&mut self, length: usize, source: impl FnOnce() -> Source<'py>, bytes: &[u8]) {
        if length < BLOCK_BYTES {
            self.head.raw(bytes);
        } else {
            self.block(length, source());
        }
    }

    fn block(&mut self, length: usize, source: Source<'py>) {
        self.block_bytes += length;
        self.blocks.push(Block {
            at: self.head.len(),
            length,
            source,
        });
    }
}

/// The memory of a Python object, which it keeps alive.
struct Lent {
    _owner: Py<PyAny>,
    start: *const u8,
    length: usize,
}

// SAFETY: the memory belongs to `_owner`, which may be dropped on any thread; numpy neither moves nor frees the data of an
// array that somebody refers to.
unsafe impl Send for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: as above. Python code can write there meanwhile, as it can to whatever it has given to a system call: the
        // bytes are only copied on, by the kernel or into a packet, and nothing is decided by them.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

/// Less than this is copied: a part of its own would cost more.
const LENT_BYTES: usize = 16 << 10;

impl<'py> Block<'py> {
    /// Whether the object is still what it was when it was measured.
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

    /// The block's memory, if it is large and in one piece.
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
    /// `out` must be valid for writes of `self.length` bytes, and nobody else may look at them.
    unsafe fn copy_to(&self, py: Python<'py>, out: *mut u8) -> PyResult<()> {
        match &self.source {
            Source::Bytes(bytes) => {
                let bytes = bytes.as_bytes();
                debug_assert_eq!(bytes.len(), self.length);
                // SAFETY: bytes objects do not change, so this is still as long as when it was measured.
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

fn utf8<'a>(text: &'a Bound<'_, PyString>) -> Result<&'a str, Failure> {
    text.to_str()
        .map_err(|_| Failure::refused("text holds a lone surrogate, which has no UTF-8".to_owned()))
}
