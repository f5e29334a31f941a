//! `QuicServer`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::errors::os_error;
use super::log::warn_of_small_buffers;
use super::transport_server::{accepted_keys, identity, packed_metadata, Serves, TransportServer};
use crate::link::limits::ServerLimits;
use crate::link::server_core::ServerCore;
use crate::quic::server::{Server, ServerConfig, ServerIdError};
use crate::quic::settings::LinkSettings;
use crate::relay::access::RelayAccess;
use crate::text::shown;
use crate::trust::Identity;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<QuicServer>()
}

/// A QUIC server for any number of clients.
#[pyclass(frozen, extends = TransportServer, module = "flash_transport")]
struct QuicServer {
    server: Arc<Server>,
}

#[pymethods]
impl QuicServer {
    #[new]
    #[pyo3(signature = (host = "0.0.0.0", port = 5555, *, metadata = None, certificate_dir = None,
                        tls_certificate = None, tls_key = None, api_keys = vec![],
                        max_message_bytes = 67_108_864, dedicated_link = false,
                        server_id = None, relay = None, relay_name = None,
                        relay_token_file = None))]
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
        server_id: Option<&str>,
        relay: Option<&str>,
        relay_name: Option<&str>,
        relay_token_file: Option<PathBuf>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let api_keys = accepted_keys(api_keys)?;
        let metadata = packed_metadata(py, metadata)?;
        let identity = match identity(certificate_dir, tls_certificate, tls_key)? {
            Some(identity) => identity,
            None => Identity::ephemeral()?,
        };
        let mut config = ServerConfig::new(address(host, port)?, identity, metadata);
        config.api_keys = api_keys;
        config.limits = ServerLimits::with_message_bytes(max_message_bytes);
        config.link = LinkSettings::with_dedicated_link(dedicated_link);
        config.server_id = server_id
            .map(|text| {
                let wrong = |error| PyValueError::new_err(format!("server_id {text:?}: {error}"));
                text.parse().map_err(|error: ServerIdError| wrong(error))
            })
            .transpose()?;
        config.relay = match (relay, relay_name, relay_token_file) {
            (None, None, None) => None,
            (Some(relay), Some(name), Some(file)) => Some(RelayAccess::read(relay, name, &file)?),
            _ => {
                return Err(PyValueError::new_err(
                    "give relay, relay_name and relay_token_file together, or none of them",
                ))
            }
        };
        let server = Server::bind(config).map_err(|error| cannot_listen(host, port, &error))?;
        warn_of_small_buffers(py, server.socket_buffers())?;
        let server = Arc::new(server);
        let base = PyClassInitializer::from(TransportServer::new(server.clone()));
        Ok(base.add_subclass(Self { server }))
    }

    /// The UDP port of the server.
    #[getter]
    fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// SHA-256 of the certificate, 64 hex digits; clients pin it.
    #[getter]
    fn fingerprint(&self) -> String {
        self.server.fingerprint().to_string()
    }

    /// Number of open connections.
    #[getter]
    fn connections(&self) -> usize {
        self.server.connections()
    }

    /// The state of each connection's link, by the client's name.
    #[getter]
    fn links<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let links = PyDict::new(py);
        for link in self.server.links() {
            let state = PyDict::new(py);
            state.set_item("rtt_ms", link.rtt.as_secs_f64() * 1000.0)?;
            state.set_item("packets_sent", link.packets_sent)?;
            state.set_item("packets_lost", link.packets_lost)?;
            state.set_item("bytes_sent", link.bytes_sent)?;
            state.set_item("bytes_received", link.bytes_received)?;
            links.set_item(&*link.client, state)?;
        }
        Ok(links)
    }

    /// The settings of the link, as the kernel granted them.
    #[getter]
    fn link_settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let buffers = self.server.socket_buffers();
        let settings = PyDict::new(py);
        settings.set_item("dedicated_link", self.server.link().is_dedicated())?;
        settings.set_item("receive_buffer_bytes", buffers.receive)?;
        settings.set_item("send_buffer_bytes", buffers.send)?;
        Ok(settings)
    }

    fn __repr__(&self) -> String {
        format!("QuicServer(\"{}\")", self.server.address())
    }
}

impl Serves for Server {
    fn core(&self) -> &ServerCore {
        Server::core(self)
    }
    fn stop_accepting(&self) {
        Server::stop_accepting(self);
    }
    fn close(&self) {
        Server::close(self);
    }
    fn is_broken(&self) -> bool {
        Server::is_broken(self)
    }
}

/// The address to listen on; brackets around an IPv6 address are allowed.
fn address(host: &str, port: u16) -> PyResult<SocketAddr> {
    if host.is_empty() {
        return Err(PyValueError::new_err(
            "host is empty: write an address to listen on, 0.0.0.0 or :: for all of this computer",
        ));
    }
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let mut addresses = (inner.unwrap_or(host), port)
        .to_socket_addrs()
        .map_err(|error| cannot_listen(host, port, &error))?;
    addresses
        .next()
        .ok_or_else(|| cannot_listen(host, port, &std::io::ErrorKind::AddrNotAvailable.into()))
}

fn cannot_listen(host: &str, port: u16, error: &std::io::Error) -> PyErr {
    let text = format!("cannot listen on UDP {}:{port}: {error}", shown(host));
    os_error(error, text)
}
