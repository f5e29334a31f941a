//! Python objects to msgpack.
//!
//! In two steps, so that array data is copied once, into memory of the right size: the walk over
//! the objects, here, writes everything except large blocks; [`Blocks`] joins the two.

use std::ptr;

use bytes::Bytes;
use numpy::{PyArrayDescr, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PyString, PyTuple,
};

use super::arrays::{byte_length, data_of, dtype_text, is_exact, is_numpy_scalar};
use super::blocks::{Blocks, Source, BLOCK_BYTES};
use super::failure::Failure;
use crate::buffers::Buffer;
use crate::codec::{CodecError, Limits, Writer, MAX_DIMS};

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

/// How to store large arrays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Arrays {
    /// Copied into the message; the caller may change the arrays afterwards.
    Copied,
    /// Referenced as parts of the message. What other code writes to them before the message is
    /// sent, is sent.
    Lent,
}

/// Encode `dict` as one msgpack message in parts, with `prefix` as its first byte. With a `key` the
/// map ends with that key, and the caller appends its value.
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
        Arrays::Lent => message.blocks.lend_in(py, prefix, message.head.as_slice()),
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
    // SAFETY: with a null pointer CPython returns an uninitialised bytes object. No other code has
    // it yet, so its `size` bytes may be written; `write_into` writes all of them or fails.
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

/// A message whose large blocks are still in Python objects.
#[derive(Default)]
struct Message<'py> {
    head: Writer,
    blocks: Blocks<'py>,
    depth: usize,
}

impl<'py> Message<'py> {
    fn of(value: &Bound<'py, PyAny>) -> PyResult<Self> {
        let mut message = Message::default();
        message.value(value)?;
        Ok(message)
    }

    fn len(&self) -> usize {
        self.head.len() + self.blocks.bytes()
    }

    fn write_after(&self, py: Python<'py>, prefix: &[u8]) -> PyResult<Buffer> {
        let mut out = Buffer::with_capacity(prefix.len() + self.len());
        out.extend_from_slice(prefix);
        // SAFETY: `self.len()` bytes of capacity are left; `write_into` writes all of them or
        // fails.
        unsafe {
            self.write_into(py, out.as_mut_ptr().add(prefix.len()))?;
            out.set_len(prefix.len() + self.len());
        }
        Ok(out)
    }

    /// Write the message to `out`.
    ///
    /// # Safety
    /// `out` must be valid for writes of `self.len()` bytes, and nothing else may access them.
    unsafe fn write_into(&self, py: Python<'py>, out: *mut u8) -> PyResult<()> {
        // SAFETY: the head and the blocks add up to `self.len()`.
        unsafe { self.blocks.write_in(py, self.head.as_slice(), out) }
    }

    fn value(&mut self, value: &Bound<'py, PyAny>) -> Result<(), Failure> {
        // the most frequent first; bool before int, because a bool is an int in Python
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

    /// A map that ends with `key`, whose value the caller appends.
    fn dict_and_key(
        &mut self,
        dict: &Bound<'py, PyDict>,
        key: Option<&str>,
    ) -> Result<(), Failure> {
        // a copy of the items: other threads may change the dict while Python code packs a value
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
            // a subclass may change its bytes (a masked array fills its holes)
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
            // SAFETY: the array is contiguous and `length` bytes long, and no Python code runs
            // before the copy.
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
        self.blocks.push(self.head.len(), length, source);
    }
}

fn utf8<'a>(text: &'a Bound<'_, PyString>) -> Result<&'a str, Failure> {
    text.to_str()
        .map_err(|_| Failure::refused("text holds a lone surrogate, which has no UTF-8".to_owned()))
}
