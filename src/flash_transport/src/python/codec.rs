//! `packb` and `unpackb`: Python objects to openpi's msgpack-numpy format and back.

mod arrays;
mod blocks;
mod decode;
mod encode;
mod failure;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors;
use crate::codec::CodecError;

pub use decode::{byte_view, decode, decode_owned};
pub use encode::{encode, encode_parts, encode_with_prefix, Arrays};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(packb, module)?)?;
    module.add_function(wrap_pyfunction!(unpackb, module)?)
}

/// Pack a value as openpi's client and server do.
#[pyfunction]
fn packb<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    encode::encode_to_bytes(value)
}

/// Unpack one message. Arrays are read-only views on `data`.
#[pyfunction]
fn unpackb(py: Python<'_>, data: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    decode(py, data, 0)
}

impl From<CodecError> for PyErr {
    fn from(error: CodecError) -> Self {
        errors::CodecError::new_err(error.to_string())
    }
}
