//! `LocalServer`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::errors::os_error;
use super::transport_server::{accepted_keys, packed_metadata, Serves, TransportServer};
use crate::link::limits::ServerLimits;
use crate::link::server_core::ServerCore;
use crate::local::path::PathError;
use crate::local::server::{LocalServer as Server, LocalServerConfig};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LocalServer>()
}

/// The server of a unix socket, for any number of clients on this computer.
#[pyclass(frozen, extends = TransportServer, module = "flash_transport")]
struct LocalServer {
    server: Arc<Server>,
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
    ) -> PyResult<PyClassInitializer<Self>> {
        if mode > 0o777 {
            return Err(PyValueError::new_err(format!(
                "mode must be permissions from 0 to 0o777, got {mode:#o}"
            )));
        }
        let mut config = LocalServerConfig::new(path, packed_metadata(py, metadata)?);
        config.api_keys = accepted_keys(api_keys)?;
        config.limits = ServerLimits::with_message_bytes(max_message_bytes);
        config.mode = mode;
        let server = Arc::new(Server::bind(config)?);
        let base = PyClassInitializer::from(TransportServer::new(server.clone()));
        Ok(base.add_subclass(Self { server }))
    }

    /// The socket's file.
    #[getter]
    fn path(&self) -> PathBuf {
        self.server.path().into()
    }

    fn __repr__(&self) -> String {
        format!("LocalServer({:?})", self.server.path())
    }
}

impl Serves for Server {
    fn core(&self) -> &ServerCore {
        Server::core(self)
    }
    fn stop_accepting(&self) {
        Server::stop_accepting(self);
    }
    // Answers are settled when they are handed to a thread that writes; it waits for those, too.
    fn wait_settled(&self, within: Duration) -> bool {
        Server::wait_settled(self, within)
    }
    fn close(&self) {
        Server::close(self);
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
