//! `FlashTransportPolicy`.

use std::time::Duration;

use bytes::Bytes;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::codec;
use super::errors::CodecError;
use super::log::warn_of_small_buffers;
use super::wait::{duration, wait_for, without_gil};
use crate::quic::client::{Client, ClientConfig, Pending};
use crate::quic::hello::{random_session, Hello};
use crate::quic::wire::Kind;
use crate::trust::{danger::AcceptAnyServer, ServerTrust};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<FlashTransportPolicy>()
}

/// A policy behind a QUIC server of openpi-flash. Any number of threads may share one.
///
/// Without `server_fingerprint` the connection is encrypted, but the server is not authenticated.
#[pyclass(frozen, module = "flash_transport")]
struct FlashTransportPolicy {
    client: Client,
}

#[pymethods]
impl FlashTransportPolicy {
    #[new]
    #[pyo3(signature = (host = "127.0.0.1", port = 5555, *, api_key = None, server_fingerprint = None,
                        session = None, connect_timeout = 10.0))]
    fn new(
        py: Python<'_>,
        host: &str,
        port: u16,
        api_key: Option<String>,
        server_fingerprint: Option<&str>,
        session: Option<String>,
        connect_timeout: f64,
    ) -> PyResult<Self> {
        let Some(connect_timeout) = duration("connect_timeout", Some(connect_timeout))? else {
            return Err(PyValueError::new_err("connect_timeout must have an end"));
        };
        let trust = match server_fingerprint {
            Some(fingerprint) => ServerTrust::Pinned(fingerprint.parse()?),
            None => ServerTrust::DangerAnyServer(AcceptAnyServer),
        };
        let mut config = ClientConfig::new(host, port, trust);
        config.connect_timeout = connect_timeout;
        config.hello = Hello {
            client: Some("flash_transport".to_owned()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            api_key,
            session: Some(session.unwrap_or_else(random_session)),
        };
        let client = Client::new(config)?;
        answer(py, client.connect(connect_timeout))?;
        if let Some(buffers) = client.socket_buffers() {
            warn_of_small_buffers(py, buffers)?;
        }
        Ok(Self { client })
    }

    /// Ask the policy what to do, within `timeout` seconds.
    #[pyo3(signature = (observation, timeout = None))]
    fn infer(
        &self,
        py: Python<'_>,
        observation: &Bound<'_, PyDict>,
        timeout: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        let timeout = duration("timeout", timeout)?;
        let message = codec::encode_with_prefix(py, Kind::Infer.byte(), observation)?;
        let answer = self.ask(py, message.into(), timeout)?;
        dict(py, codec::decode_owned(py, answer, 1)?)
    }

    /// What the server said about itself when the connection was made.
    fn get_server_metadata(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let metadata = self.client.metadata().unwrap_or_default();
        dict(py, codec::decode_owned(py, metadata.to_vec(), 0)?)
    }

    /// Start a new episode.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        let message = codec::encode_with_prefix(py, Kind::Reset.byte(), &PyDict::new(py))?;
        self.ask(py, message.into(), Some(RESET_TIME)).map(|_| ())
    }

    /// Close the connection. Requests that other threads wait for end in Disconnected.
    fn close(&self, py: Python<'_>) {
        // Other threads that wait for an answer need the GIL to learn that there will be none.
        without_gil(py, || self.client.close());
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        format!("FlashTransportPolicy({:?})", self.client.server())
    }
}

/// A reset does nothing on the server that takes time.
const RESET_TIME: Duration = Duration::from_secs(10);

impl FlashTransportPolicy {
    fn ask(&self, py: Python<'_>, message: Bytes, timeout: Option<Duration>) -> PyResult<Vec<u8>> {
        if self.client.is_forked() {
            return Err(PyRuntimeError::new_err(format!(
                "this client of {} was made before a fork and has no connection here; make a new one after the fork",
                self.client.server()
            )));
        }
        answer(py, self.client.request(message, timeout))
    }
}

/// Wait to the end; the client keeps the time.
fn answer(py: Python<'_>, pending: Pending) -> PyResult<Vec<u8>> {
    Ok(wait_for(py, move |slice| pending.wait(slice))??)
}

fn dict(py: Python<'_>, value: Py<PyAny>) -> PyResult<Py<PyAny>> {
    if value.bind(py).is_instance_of::<PyDict>() {
        return Ok(value);
    }
    Err(CodecError::new_err(format!(
        "the server's answer is no map but a {}",
        value.bind(py).get_type().name()?
    )))
}
