//! The socket of a connection: to its server, or to a relay in front of it.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::AsyncUdpSocket;
use tokio::time::timeout;

use super::config::ClientConfig;
use crate::quic::relay::client_socket::RelayedSocket;
use crate::quic::socket::{ConnectedSocket, Unreached};

/// A relay that takes longer to answer is silent.
const RELAY_TIME: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) enum ClientSocket {
    Connected(Arc<ConnectedSocket>, SocketAddr),
    Relayed(Arc<RelayedSocket>),
}

impl ClientSocket {
    /// To the server at `address`, or to the relay there if the configuration has one.
    pub fn new(
        socket: std::net::UdpSocket,
        address: SocketAddr,
        config: &ClientConfig,
    ) -> io::Result<Self> {
        Ok(match &config.relay {
            None => {
                let largest = config.link.largest_datagram;
                Self::Connected(ConnectedSocket::new(socket, address, largest)?, address)
            }
            Some(access) => Self::Relayed(RelayedSocket::new(socket, address, access)?),
        })
    }

    pub fn for_quic(&self) -> Arc<dyn AsyncUdpSocket> {
        match self {
            Self::Connected(socket, _) => socket.clone(),
            Self::Relayed(socket) => socket.clone(),
        }
    }

    /// Wait until the relay has told of the server, for at most `within`; the address that QUIC
    /// knows the server by, or why there is none.
    pub async fn server(&self, within: Duration) -> Result<SocketAddr, String> {
        match self {
            Self::Connected(_, address) => Ok(*address),
            Self::Relayed(socket) => {
                let answered = timeout(within.min(RELAY_TIME), socket.server()).await;
                answered.unwrap_or_else(|_| Err("the relay is silent".to_owned()))
            }
        }
    }

    /// The largest datagram that its route may carry.
    pub fn largest_datagram(&self) -> u16 {
        match self {
            Self::Connected(socket, _) => socket.largest_datagram(),
            Self::Relayed(socket) => socket.largest_datagram(),
        }
    }

    /// When the last datagram arrived, or when the socket was made; exact to a millisecond.
    pub fn last_heard(&self) -> Instant {
        match self {
            Self::Connected(socket, _) => socket.last_heard(),
            Self::Relayed(socket) => socket.last_heard(),
        }
    }

    /// See [`ConnectedSocket::refused_once`]. Behind a relay only silence tells.
    pub async fn refused_once(&self) -> Unreached {
        match self {
            Self::Connected(socket, _) => socket.refused_once().await,
            Self::Relayed(..) => pending().await,
        }
    }

    /// See [`ConnectedSocket::server_is_gone`]. Behind a relay only silence tells.
    pub async fn server_is_gone(&self) {
        match self {
            Self::Connected(socket, _) => socket.server_is_gone().await,
            Self::Relayed(..) => pending().await,
        }
    }
}
