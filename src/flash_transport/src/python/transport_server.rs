//! `TransportServer`: the Python interface that the servers of every transport share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::codec;
use super::errors::FlashTransportError;
use super::request::TransportRequest;
use super::wait::{duration, wait_within, without_gil};
use crate::link::keys::{ApiKey, ApiKeyError};
use crate::link::queue::Next;
use crate::link::server_core::ServerCore;
use crate::trust::Identity;

/// What a server must implement for the Python interface.
pub trait Serves: Send + Sync {
    fn core(&self) -> &ServerCore;
    fn stop_accepting(&self);
    fn wait_settled(&self, within: Duration) -> bool {
        self.core().accepted.wait_settled(within)
    }
    fn close(&self);
    /// Whether it failed and can accept no more requests, although it was not closed.
    fn is_broken(&self) -> bool {
        false
    }
}

/// The base class of `QuicServer`, `WebsocketServer` and `LocalServer`.
#[pyclass(frozen, subclass, module = "flash_transport")]
pub struct TransportServer {
    server: Arc<dyn Serves>,
}

impl TransportServer {
    pub fn new(server: Arc<dyn Serves>) -> Self {
        Self { server }
    }
}

/// Event kind, client, session or reason, count.
type Event = (&'static str, String, String, u64);

#[pymethods]
impl TransportServer {
    /// Counters since the start, for metrics.
    #[getter]
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let named = PyDict::new(py);
        for (name, value) in self.server.core().counters.snapshot() {
            named.set_item(name, value)?;
        }
        Ok(named)
    }

    /// The clients that are connected: their names, sessions and software.
    fn clients(&self) -> Vec<(String, String, String)> {
        let connected = self.server.core().connected().into_iter();
        connected
            .map(|(name, client)| {
                (
                    name.to_string(),
                    client.session.to_string(),
                    client.software,
                )
            })
            .collect()
    }

    /// The place of a connected client's key among those that are accepted, 0 if none is wanted;
    /// None if no client of this name is connected.
    fn client_key(&self, name: &str) -> Option<usize> {
        self.server.core().key_of(name)
    }

    /// Count wrong keys together with another server of this process, so that trying them on both is
    /// no faster than on one.
    fn share_refusals(&self, other: &TransportServer) {
        self.server.core().share_refusals(other.server.core());
    }

    /// Answer hellos with `metadata` from now on: the policy is loaded.
    fn set_metadata(&self, py: Python<'_>, metadata: &Bound<'_, PyDict>) -> PyResult<()> {
        self.server
            .core()
            .set_metadata(&codec::encode(py, metadata)?);
        Ok(())
    }

    /// Wait for the next request; None after `timeout`, or if the server is closed.
    #[pyo3(signature = (timeout = None))]
    fn next_request(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
    ) -> PyResult<Option<TransportRequest>> {
        let timeout = duration("timeout", timeout)?;
        let core = self.server.core();
        let found = wait_within(py, timeout, |slice| match core.next(slice) {
            Next::Request(request) => Some(Some(request)),
            Next::Nothing => None,
            Next::Closed => Some(None),
        })?;
        match found.flatten() {
            Some(request) => Ok(Some(TransportRequest::new(request))),
            None if self.server.is_broken() => Err(FlashTransportError::new_err(
                "the server's socket failed; it takes no more requests",
            )),
            None => Ok(None),
        }
    }

    /// Wait for events of clients that connected, disconnected or were refused.
    #[pyo3(signature = (timeout = None))]
    fn next_client_events(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Vec<Event>>> {
        let timeout = duration("timeout", timeout)?;
        let events = &self.server.core().events;
        let found = wait_within(py, timeout, |slice| match events.next(slice) {
            Some(events) if events.is_empty() => None,
            found => Some(found),
        })?;
        let Some(found) = found else {
            return Ok(Some(Vec::new()));
        };
        Ok(found.map(|events| {
            let event = |event: crate::link::events::ClientEvent| {
                let client = event.client.to_string();
                (event.kind.name(), client, event.detail, event.count)
            };
            events.into_iter().map(event).collect()
        }))
    }

    /// Answer hellos and new requests `not_ready` from now on; accepted requests go on.
    fn stop_accepting(&self) {
        self.server.stop_accepting();
    }

    /// Accept nothing more, wait up to `timeout` until accepted requests are answered, and close.
    /// Returns whether all were answered and all answers have arrived.
    fn drain(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let timeout = duration("timeout", timeout)?;
        self.server.stop_accepting();
        let settled = wait_within(py, timeout, |slice| {
            self.server.wait_settled(slice).then_some(())
        })?;
        self.close(py);
        Ok(settled.is_some())
    }

    /// Stop. Requests not begun are answered `not_ready`; sent answers arrive.
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
}

/// The keys that a server accepts.
pub fn accepted_keys(api_keys: Vec<String>) -> Result<Vec<ApiKey>, ApiKeyError> {
    api_keys.into_iter().map(ApiKey::accepted).collect()
}

/// The server's certificate, from the files that are given; `None` if there are none.
pub fn identity(
    certificate_dir: Option<PathBuf>,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
) -> PyResult<Option<Identity>> {
    Ok(match (certificate_dir, tls_certificate, tls_key) {
        (None, None, None) => None,
        (Some(directory), None, None) => Some(Identity::load_or_create(&directory)?),
        (None, Some(certificate), Some(key)) => Some(Identity::from_files(&certificate, &key)?),
        _ => {
            return Err(PyValueError::new_err(
                "give certificate_dir, or tls_certificate and tls_key together, or none of them",
            ))
        }
    })
}

/// The answer to hellos, if the policy is loaded.
pub fn packed_metadata(
    py: Python<'_>,
    metadata: Option<&Bound<'_, PyDict>>,
) -> PyResult<Option<Vec<u8>>> {
    metadata
        .map(|metadata| codec::encode(py, metadata))
        .transpose()
}
