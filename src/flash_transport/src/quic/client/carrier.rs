//! A connection whose hello is sent, over QUIC or a unix socket.

use std::time::{Duration, Instant};

use super::config::ClientConfig;
use super::dial::{self, Link, Sessions};
use super::error::AttemptError;
use super::exchange::{exchange_pieces, Arrival, ExchangeError};
use super::introduction::Introduction;
#[cfg(unix)]
use super::local_link::{LocalLink, OnThisThread};
use super::message::Pieces;
use crate::buffers::Buffer;
use crate::congestion::LinkEstimate;
use crate::link::first_receiver::FirstReceiver;
use crate::quic::settings::SocketBuffers;

#[derive(Debug)]
pub(super) enum Carrier {
    Quic(Link),
    #[cfg(unix)]
    Local(LocalLink),
}

/// Connect within `config.connect_timeout`.
pub(super) async fn dial(
    config: &ClientConfig,
    sessions: &Sessions,
) -> Result<Carrier, AttemptError> {
    match config.local_path() {
        None => dial::dial(config, sessions).await.map(Carrier::Quic),
        #[cfg(unix)]
        Some(path) => LocalLink::open(config, path).await.map(Carrier::Local),
        #[cfg(not(unix))]
        Some(_) => Err(AttemptError::again("this system has no unix sockets")),
    }
}

impl Carrier {
    pub fn introduction(&self) -> &Introduction {
        match self {
            Carrier::Quic(link) => &link.introduction,
            #[cfg(unix)]
            Carrier::Local(link) => &link.introduction,
        }
    }

    /// The buffers of the UDP socket, if it is one.
    pub fn buffers(&self) -> Option<SocketBuffers> {
        match self {
            Carrier::Quic(link) => Some(link.buffers),
            #[cfg(unix)]
            Carrier::Local(_) => None,
        }
    }

    /// What is known of the path to the server, if it is one with a rate.
    pub fn estimate(&self) -> Option<LinkEstimate> {
        match self {
            Carrier::Quic(link) => link.estimate(),
            #[cfg(unix)]
            Carrier::Local(_) => None,
        }
    }

    /// Whether requests may be sent on it.
    pub fn is_up(&self) -> bool {
        let is_connected = match self {
            Carrier::Quic(link) => link.is_up(),
            #[cfg(unix)]
            Carrier::Local(link) => link.is_up(),
        };
        is_connected && !self.introduction().has_failed()
    }

    /// How long nothing has come from the server, and how long a round trip takes, over QUIC.
    pub fn quiet(&self) -> Option<(Duration, Duration)> {
        match self {
            Carrier::Quic(link) => Some(link.quiet()),
            #[cfg(unix)]
            Carrier::Local(_) => None,
        }
    }

    /// How long nothing has come from a server that should have answered what was sent at `asked`.
    pub fn silence(&self, asked: Instant, has_arrived: bool) -> Option<Duration> {
        match self {
            Carrier::Quic(link) => link.silence(asked, has_arrived),
            #[cfg(unix)]
            Carrier::Local(_) => None,
        }
    }

    /// Wait until the connection has ended, and return why.
    pub async fn lost(&self) -> String {
        match self {
            Carrier::Quic(link) => link.lost().await,
            #[cfg(unix)]
            Carrier::Local(link) => link.lost().await,
        }
    }

    pub async fn close(&self) {
        match self {
            Carrier::Quic(link) => link.close().await,
            #[cfg(unix)]
            Carrier::Local(link) => link.close(),
        }
    }

    /// Let the calling thread carry a request, if the transport supports that, the hello is
    /// answered and the connection is free.
    pub fn carry_here(
        &self,
        request: Pieces,
        first: Option<&FirstReceiver>,
    ) -> Option<CarriedHere> {
        match self {
            Carrier::Quic(_) => None,
            #[cfg(unix)]
            Carrier::Local(link) if !link.introduction.is_done() => None,
            #[cfg(unix)]
            Carrier::Local(link) => link.on_this_thread(request, first).map(CarriedHere),
        }
    }

    /// Send a request and return its whole answer, which is no error, with what is to be told of
    /// its progress.
    pub async fn exchange(
        &self,
        request: Pieces,
        expected: usize,
        limit: usize,
        server: &str,
        told: (Arrival<'_>, Option<&FirstReceiver>),
    ) -> Result<Buffer, ExchangeError> {
        let answer = match self {
            Carrier::Quic(link) => {
                let (prober, repairer) = (&link.prober, &link.repairer);
                exchange_pieces(prober, repairer, request, expected, limit, server, told).await
            }
            #[cfg(unix)]
            Carrier::Local(link) => link.exchange(request, told).await,
        };
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.introduction().overrule(error).await),
        }
    }
}

/// A request that the waiting thread carries. Dropping it cancels the request at the server.
#[cfg(unix)]
#[derive(Debug)]
pub(super) struct CarriedHere(OnThisThread);

#[cfg(not(unix))]
#[derive(Debug)]
pub(super) enum CarriedHere {}

impl CarriedHere {
    /// Continue until the answer is there, or until `until`; then `None`.
    pub fn carry(&mut self, until: Instant) -> Option<Result<Buffer, ExchangeError>> {
        #[cfg(unix)]
        return self.0.carry(until);
        #[cfg(not(unix))]
        match *self {}
    }
}
