//! `QuicServer` and `QuicRequest`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use super::codec;
use super::errors::{os_error, CodecError, FlashTransportError};
use super::log::warn_of_small_buffers;
use super::serving::{checked_keys, counted, next_within, packed_metadata, settled_within};
use super::wait::{duration, without_gil};
use crate::buffers::Buffer;
use crate::link::limits::ServerLimits;
use crate::link::request::Request;
use crate::link::wire::{ErrorCode, ANSWER_OK};
use crate::quic::server::{Server, ServerConfig};
use crate::quic::settings::LinkSettings;
use crate::trust::Identity;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<QuicServer>()?;
    module.add_class::<QuicRequest>()
}

/// The server's end of QUIC, for any number of clients.
#[pyclass(frozen, module = "flash_transport")]
struct QuicServer {
    server: Server,
}

#[pymethods]
impl QuicServer {
    #[new]
    #[pyo3(signature = (host = "0.0.0.0", port = 5555, *, metadata = None, certificate_dir = None,
                        tls_certificate = None, tls_key = None, api_keys = vec![],
                        max_message_bytes = 67_108_864, dedicated_link = false))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        py: Python<'_>,
        host: &str,
        port: u16,
        metadata: Option<&Bound<'_, PyDict>>,
        certificate_dir: Option<PathBuf>,
        tls_certificate: Option<PathBuf>,
        tls_key: Option<PathBuf>,
        api_keys: Vec<String>,
        max_message_bytes: usize,
        dedicated_link: bool,
    ) -> PyResult<Self> {
        let api_keys = checked_keys(api_keys)?;
        let metadata = packed_metadata(py, metadata)?;
        let identity = match (certificate_dir, tls_certificate, tls_key) {
            (None, None, None) => Identity::ephemeral()?,
            (Some(directory), None, None) => Identity::load_or_create(&directory)?,
            (None, Some(certificate), Some(key)) => Identity::from_files(&certificate, &key)?,
            _ => return Err(PyValueError::new_err(
                "give certificate_dir, or tls_certificate and tls_key together, or none of them",
            )),
        };
        let mut config = ServerConfig::new(address(host, port)?, identity, metadata);
        config.api_keys = api_keys;
        config.limits = ServerLimits::with_message_bytes(max_message_bytes);
        config.link = LinkSettings::with_dedicated_link(dedicated_link);
        let server = Server::bind(config).map_err(|error| {
            let text = format!("cannot listen on UDP {host}:{port}: {error}");
            os_error(&error, text)
        })?;
        warn_of_small_buffers(py, server.socket_buffers())?;
        Ok(Self { server })
    }

    /// The UDP port that is listened on.
    #[getter]
    fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// SHA-256 of the certificate, 64 hex digits; clients pin it.
    #[getter]
    fn fingerprint(&self) -> String {
        self.server.fingerprint().to_string()
    }

    /// How many connections are open now.
    #[getter]
    fn connections(&self) -> usize {
        self.server.connections()
    }

    /// How the link is set, as the kernel granted it.
    #[getter]
    fn link_settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let buffers = self.server.socket_buffers();
        let settings = PyDict::new(py);
        settings.set_item("dedicated_link", self.server.link().is_dedicated())?;
        settings.set_item("receive_buffer_bytes", buffers.receive)?;
        settings.set_item("send_buffer_bytes", buffers.send)?;
        Ok(settings)
    }

    /// What happened since the start, for metrics.
    #[getter]
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        counted(py, self.server.counters())
    }

    /// Wait for the next request; None when `timeout` has passed or the server is closed.
    #[pyo3(signature = (timeout = None))]
    fn next_request(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<QuicRequest>> {
        match next_within(py, timeout, |slice| self.server.next(slice))? {
            Some(request) => Ok(Some(QuicRequest::new(request))),
            None if self.server.is_broken() => Err(FlashTransportError::new_err(
                "the server's socket failed; it takes no more requests",
            )),
            None => Ok(None),
        }
    }

    /// Let clients in: from now on a hello is answered with `metadata`.
    fn set_metadata(&self, py: Python<'_>, metadata: &Bound<'_, PyDict>) -> PyResult<()> {
        self.server.set_metadata(&codec::encode(py, metadata)?);
        Ok(())
    }

    /// Answer hellos and new requests with `not_ready` from now on; what was accepted goes on.
    fn stop_accepting(&self) {
        self.server.stop_accepting();
    }

    /// Accept nothing more, wait up to `timeout` until what was accepted is answered, and close. Says whether
    /// everything was answered and has arrived.
    fn drain(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let timeout = duration("timeout", timeout)?;
        self.server.stop_accepting();
        let settled = settled_within(py, timeout, |slice| self.server.wait_settled(slice))?;
        self.close(py);
        Ok(settled)
    }

    /// Stop. What is not begun is answered `not_ready`, sent answers arrive.
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
        format!("QuicServer(\"{}\")", self.server.address())
    }
}

/// A request, to be answered once with `respond` or `fail`, from any thread.
#[pyclass(frozen, module = "flash_transport")]
pub(super) struct QuicRequest {
    /// Its body has moved to `body`.
    request: Request,
    /// Empty once it is decoded.
    body: Mutex<Buffer>,
    observation: PyOnceLock<PyResult<Py<PyAny>>>,
}

impl QuicRequest {
    pub(super) fn new(mut request: Request) -> Self {
        Self {
            body: Mutex::new(std::mem::take(&mut request.body)),
            request,
            observation: PyOnceLock::new(),
        }
    }

    fn decode(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let body = std::mem::take(&mut *self.body.lock().unwrap_or_else(PoisonError::into_inner));
        let observation = codec::decode_owned(py, body, 0)?;
        if observation.bind(py).is_instance_of::<PyDict>() {
            return Ok(observation);
        }
        Err(CodecError::new_err(format!(
            "a request must be a map, got a {}",
            observation.bind(py).get_type().name()?
        )))
    }
}

#[pymethods]
impl QuicRequest {
    /// `infer` or `reset`.
    #[getter]
    fn kind(&self) -> &'static str {
        self.request.kind.name()
    }

    /// What the client calls itself; its `peer` where it said nothing.
    #[getter]
    fn session(&self) -> &str {
        &self.request.session
    }

    /// Where the client is: `ip:port#connection`.
    #[getter]
    fn peer(&self) -> &str {
        &self.request.peer
    }

    /// What the client sent; arrays are read-only views on the received bytes.
    #[getter]
    fn observation(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.observation.get_or_init(py, || self.decode(py)) {
            Ok(observation) => Ok(observation.clone_ref(py)),
            Err(error) => Err(error.clone_ref(py)),
        }
    }

    /// Whether nobody waits for the answer any more.
    #[getter]
    fn cancelled(&self) -> bool {
        self.request.reply.is_cancelled()
    }

    /// Answer with a result. Harmless when the client has left.
    fn respond(&self, py: Python<'_>, result: &Bound<'_, PyDict>) -> PyResult<()> {
        let answer = codec::encode_with_prefix(py, ANSWER_OK, result)?;
        Ok(self.request.reply.answer(answer)?)
    }

    /// Answer with an error. Harmless when the client has left.
    fn fail(&self, code: &str, message: &str) -> PyResult<()> {
        let Some(code) = ErrorCode::from_name(code) else {
            let known = ErrorCode::ALL.map(ErrorCode::name).join(", ");
            return Err(PyValueError::new_err(format!(
                "{code:?} is no error code, expected one of: {known}"
            )));
        };
        Ok(self.request.reply.fail(code, message)?)
    }

    fn __repr__(&self) -> String {
        let Request {
            kind,
            session,
            peer,
            ..
        } = &self.request;
        format!(
            "QuicRequest(kind={:?}, session={session:?}, peer={peer:?})",
            kind.name()
        )
    }
}

fn address(host: &str, port: u16) -> PyResult<SocketAddr> {
    let unknown = |error: std::io::Error| {
        let text = format!("cannot listen on UDP {host}:{port}: {error}");
        os_error(&error, text)
    };
    let mut addresses = (host, port).to_socket_addrs().map_err(unknown)?;
    addresses
        .next()
        .ok_or_else(|| unknown(std::io::ErrorKind::AddrNotAvailable.into()))
}
