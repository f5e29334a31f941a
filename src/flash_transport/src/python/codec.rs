//! `packb` and `unpackb`: Python objects to openpi's msgpack-numpy and back.
use pyo3::exceptions::PyNotImplementedError;
use pyo3::prelude::*;

/// Encode `value` as one msgpack message.
pub fn encode(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let _ = (py, value);
    Err(PyNotImplementedError::new_err("codec"))
}

/// As [`encode`], with `prefix` as the first byte of the result.
pub fn encode_with_prefix(
    py: Python<'_>,
    prefix: u8,
    value: &Bound<'_, PyAny>,
) -> PyResult<Vec<u8>> {
    let _ = (py, prefix, value);
    Err(PyNotImplementedError::new_err("codec"))
}

/// Decode the one message in `buffer[offset..]`. Arrays are read-only views that keep `buffer` alive.
///
/// `buffer` is `bytes`, or anything that exports its bytes. Received bytes get here without a copy as
/// `numpy::PyArray1::from_vec(py, received).into_any()`, or through [`decode_owned`].
pub fn decode(py: Python<'_>, buffer: Bound<'_, PyAny>, offset: usize) -> PyResult<Py<PyAny>> {
    let _ = (py, buffer, offset);
    Err(PyNotImplementedError::new_err("codec"))
}

/// As [`decode`], for bytes that Rust owns; they are moved, not copied.
pub fn decode_owned(py: Python<'_>, buffer: Vec<u8>, offset: usize) -> PyResult<Py<PyAny>> {
    let _ = (py, buffer, offset);
    Err(PyNotImplementedError::new_err("codec"))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let _ = module;
    Ok(())
}
