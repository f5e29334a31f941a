//! The settings of a client.

use std::time::Duration;

use crate::link::hello::Hello;
use crate::quic::settings::LinkSettings;
use crate::relay::access::RelayAccess;
use crate::trust::ServerTrust;

#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Name or address; `unix:` and a path for a server on this computer.
    pub host: String,
    pub port: u16,
    pub trust: ServerTrust,
    pub hello: Hello,
    /// For each attempt to connect, and for all attempts during one request.
    pub connect_timeout: Duration,
    /// For each attempt to connect, where that is less than `connect_timeout`.
    pub attempt_timeout: Duration,
    /// Whether a request waits for a connection; else it fails at once with
    /// [`ClientError::NotBegun`](super::ClientError::NotBegun), also if it must be sent again.
    pub requests_connect: bool,
    /// Largest answer that is accepted.
    pub answer_bytes: usize,
    /// UDP port to send from, for one connection at a time; 0: chosen by the system.
    pub local_port: u16,
    /// The relay through which the server is reached; `host` is then its name there.
    pub relay: Option<RelayAccess>,
    pub link: LinkSettings,
}

impl ClientConfig {
    pub fn new(host: impl Into<String>, port: u16, trust: ServerTrust) -> Self {
        Self {
            host: host.into(),
            port,
            trust,
            hello: Hello::default(),
            connect_timeout: Duration::from_secs(10),
            attempt_timeout: Duration::MAX,
            requests_connect: true,
            answer_bytes: 64 << 20,
            local_port: 0,
            relay: None,
            link: LinkSettings::default(),
        }
    }

    /// The server as the user named it.
    pub fn server(&self) -> String {
        match self.host.contains(':') {
            _ if self.local_path().is_some() => self.host.clone(),
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The path, if the host is a unix socket on this computer.
    pub fn local_path(&self) -> Option<&str> {
        self.host.strip_prefix("unix:")
    }
}
