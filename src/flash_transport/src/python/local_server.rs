//! `LocalServer`.

use std::path::PathBuf;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::codec;
use super::errors::os_error;
use super::server::QuicRequest;
use super::serving::{checked_keys, counted, next_within, packed_metadata, settled_within};
use super::wait::{duration, without_gil};
use crate::link::limits::ServerLimits;
use crate::local::path::PathError;
use crate::local::server::{LocalServer as Server, LocalServerConfig};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LocalServer>()
}

/// The server's end of a unix socket, for any number of clients on this computer.
#[pyclass(frozen, module = "flash_transport")]
struct LocalServer {
    server: Server,
}

#[pymethods]
impl LocalServer {
    #[new]
    #[pyo3(signature = (path, *, metadata = None, api_keys = vec![], max_message_bytes = 67_108_864, mode = 0o600))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        metadata: Option<&Bound<'_, PyDict>>,
        api_keys: Vec<String>,
        max_message_bytes: usize,
        mode: u32,
    ) -> PyResult<Self> {
        if mode > 0o777 {
            return Err(PyValueError::new_err(format!(
                "mode must be permissions from 0 to 0o777, got {mode:#o}"
            )));
        }
        let mut config = LocalServerConfig::new(path, packed_metadata(py, metadata)?);
        config.api_keys = checked_keys(api_keys)?;
        config.limits = ServerLimits::with_message_bytes(max_message_bytes);
        config.mode = mode;
        let server = Server::bind(config)?;
        Ok(Self { server })
    }

    /// The socket's file.
    #[getter]
    fn path(&self) -> PathBuf {
        self.server.path().into()
    }

    /// What happened since the start, for metrics.
    #[getter]
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        counted(py, self.server.counters())
    }

    /// Let clients in: hello is answered with `metadata` from now on.
    fn set_metadata(&self, py: Python<'_>, metadata: &Bound<'_, PyDict>) -> PyResult<()> {
        self.server.set_metadata(&codec::encode(py, metadata)?);
        Ok(())
    }

    /// Wait for the next request; None when `timeout` has passed or the server is closed.
    #[pyo3(signature = (timeout = None))]
    fn next_request(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<QuicRequest>> {
        let request = next_within(py, timeout, |slice| self.server.next(slice))?;
        Ok(request.map(QuicRequest::new))
    }

    /// Answer requests with `not_ready` from now on; what was accepted goes on.
    fn stop_accepting(&self) {
        self.server.stop_accepting();
    }

    /// Accept nothing more, wait up to `timeout` until what was accepted is answered, and close. Says whether
    /// everything was answered.
    fn drain(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let timeout = duration("timeout", timeout)?;
        self.server.stop_accepting();
        let settled = settled_within(py, timeout, |slice| self.server.wait_settled(slice))?;
        self.close(py);
        Ok(settled)
    }

    /// Stop. What nobody took is answered `not_ready`, sent answers arrive.
    fn close(&self, py: Python<'_>) {
        // A thread in `next_request` needs the GIL to return.
        without_gil(py, || self.server.close());
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        format!("LocalServer({:?})", self.server.path())
    }
}

impl From<PathError> for PyErr {
    fn from(error: PathError) -> PyErr {
        let text = error.to_string();
        match error {
            PathError::Io { source, .. } => os_error(&source, text),
            PathError::Taken { .. } => PyOSError::new_err((libc::EADDRINUSE, text)),
            PathError::NoDirectory { .. } => PyOSError::new_err((libc::ENOENT, text)),
            PathError::NoSocket { .. } => PyOSError::new_err((libc::EEXIST, text)),
            PathError::TooLong { .. } => PyValueError::new_err(text),
        }
    }
}
