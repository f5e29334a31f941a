//! What the servers have in common in Python: what they are given, what they count, how they wait.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::codec;
use super::wait::{duration, wait_within};
use crate::link::counters::Counters;
use crate::link::queue::Next;
use crate::link::request::Request;

/// The keys, of which none may be empty: a client without a key would be let in by it.
pub fn checked_keys(api_keys: Vec<String>) -> PyResult<Vec<String>> {
    if api_keys.iter().any(String::is_empty) {
        return Err(PyValueError::new_err("api_keys holds an empty key"));
    }
    Ok(api_keys)
}

/// What a hello is answered with, if it is known yet.
pub fn packed_metadata(
    py: Python<'_>,
    metadata: Option<&Bound<'_, PyDict>>,
) -> PyResult<Option<Vec<u8>>> {
    metadata
        .map(|metadata| codec::encode(py, metadata))
        .transpose()
}

/// The counters by their names.
pub fn counted<'py>(py: Python<'py>, counters: &Counters) -> PyResult<Bound<'py, PyDict>> {
    let named = PyDict::new(py);
    for (name, value) in counters.snapshot() {
        named.set_item(name, value)?;
    }
    Ok(named)
}

/// The next request; None when `timeout` seconds have passed or the server is closed.
pub fn next_within(
    py: Python<'_>,
    timeout: Option<f64>,
    mut next: impl FnMut(Duration) -> Next<Request> + Send,
) -> PyResult<Option<Request>> {
    let timeout = duration("timeout", timeout)?;
    let found = wait_within(py, timeout, |slice| match next(slice) {
        Next::Request(request) => Some(Some(request)),
        Next::Nothing => None,
        Next::Closed => Some(None),
    })?;
    Ok(found.flatten())
}

/// Whether everything was answered before `timeout` was over.
pub fn settled_within(
    py: Python<'_>,
    timeout: Option<Duration>,
    mut wait_settled: impl FnMut(Duration) -> bool + Send,
) -> PyResult<bool> {
    let settled = wait_within(py, timeout, |slice| wait_settled(slice).then_some(()))?;
    Ok(settled.is_some())
}
