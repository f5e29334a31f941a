//! `WebsocketServer`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::errors::os_error;
use super::transport_server::{accepted_keys, identity, packed_metadata, Serves, TransportServer};
use super::wait::duration;
use crate::link::limits::ServerLimits;
use crate::link::server_core::ServerCore;
use crate::text::shown;
use crate::websocket::server::{
    AskReadiness, Readiness, WebsocketServer as Server, WebsocketServerConfig,
};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<WebsocketServer>()
}

/// A WebSocket server for any number of clients.
#[pyclass(frozen, extends = TransportServer, module = "flash_transport")]
struct WebsocketServer {
    server: Arc<Server>,
}

#[pymethods]
impl WebsocketServer {
    #[new]
    #[pyo3(signature = (host = "0.0.0.0", port = 8000, *, metadata = None, readiness = None,
                        sessions_socket = None, certificate_dir = None, tls_certificate = None,
                        tls_key = None, api_keys = vec![], max_message_bytes = 67_108_864,
                        expose_tracebacks = true, ping_interval = 20.0, longest_silence = 900.0))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        py: Python<'_>,
        host: &str,
        port: u16,
        metadata: Option<&Bound<'_, PyDict>>,
        readiness: Option<Py<PyAny>>,
        sessions_socket: Option<PathBuf>,
        certificate_dir: Option<PathBuf>,
        tls_certificate: Option<PathBuf>,
        tls_key: Option<PathBuf>,
        api_keys: Vec<String>,
        max_message_bytes: usize,
        expose_tracebacks: bool,
        ping_interval: f64,
        longest_silence: f64,
    ) -> PyResult<PyClassInitializer<Self>> {
        let addresses = addresses(host, port)?;
        let mut config = WebsocketServerConfig::new(addresses[0], packed_metadata(py, metadata)?);
        config.addresses = addresses;
        config.api_keys = accepted_keys(api_keys)?;
        config.limits = ServerLimits::with_message_bytes(max_message_bytes);
        config.expose_tracebacks = expose_tracebacks;
        config.sessions = sessions_socket;
        config.ping_interval = interval("ping_interval", ping_interval)?;
        config.longest_silence = interval("longest_silence", longest_silence)?;
        config.identity = identity(certificate_dir, tls_certificate, tls_key)?;
        if let Some(readiness) = readiness {
            config.readiness = ask(readiness);
        }
        let server = Server::bind(config).map_err(|error| cannot_listen(host, port, &error))?;
        let server = Arc::new(server);
        let base = PyClassInitializer::from(TransportServer::new(server.clone()));
        Ok(base.add_subclass(Self { server }))
    }

    /// The TCP port of the server.
    #[getter]
    fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// Number of open connections.
    #[getter]
    fn connections(&self) -> usize {
        self.server.connections()
    }

    /// Number of clients that wait for the metadata.
    #[getter]
    fn waiting_clients(&self) -> usize {
        self.server.waiting_clients()
    }

    /// The state of each connection's link, by the client's name.
    #[getter]
    fn links<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let links = PyDict::new(py);
        for (client, round_trip) in self.server.round_trips() {
            let state = PyDict::new(py);
            state.set_item("rtt_ms", round_trip.as_secs_f64() * 1000.0)?;
            links.set_item(&*client, state)?;
        }
        Ok(links)
    }

    fn __repr__(&self) -> String {
        format!("WebsocketServer(\"{}\")", self.server.address())
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

/// Asks Python; an error there is a trouble of the server.
fn ask(readiness: Py<PyAny>) -> AskReadiness {
    Arc::new(move || {
        Python::attach(|py| {
            let answer = readiness.call0(py);
            match answer.and_then(|answer| answer.extract(py)) {
                Ok((not_ready, unhealthy)) => Readiness {
                    not_ready,
                    unhealthy,
                },
                Err(error) => Readiness {
                    not_ready: None,
                    unhealthy: Some(error.to_string()),
                },
            }
        })
    })
}

fn interval(name: &str, seconds: f64) -> PyResult<Duration> {
    match duration(name, Some(seconds))? {
        Some(interval) if interval > Duration::ZERO => Ok(interval),
        _ => Err(PyValueError::new_err(format!(
            "{name} must be a number of seconds above 0, got {seconds}"
        ))),
    }
}

/// The addresses of a host to listen on; brackets around an IPv6 address are allowed.
fn addresses(host: &str, port: u16) -> PyResult<Vec<SocketAddr>> {
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let found = (inner.unwrap_or(host), port)
        .to_socket_addrs()
        .map_err(|error| cannot_listen(host, port, &error))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    match addresses.is_empty() {
        true => {
            let none = std::io::ErrorKind::AddrNotAvailable.into();
            Err(cannot_listen(host, port, &none))
        }
        false => Ok(addresses),
    }
}

fn cannot_listen(host: &str, port: u16, error: &std::io::Error) -> PyErr {
    let text = format!("cannot listen on TCP {}:{port}: {error}", shown(host));
    os_error(error, text)
}
