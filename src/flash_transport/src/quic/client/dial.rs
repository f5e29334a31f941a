//! One attempt to connect: name lookup, socket, handshake, and sending the hello.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig as QuinnConfig, Connection, Endpoint, EndpointConfig, TokioRuntime};
use rustls::pki_types::CertificateDer;
use tokio::time::{sleep, timeout, timeout_at, Instant};

use crate::congestion::{self, LinkEstimate, Prober};
use crate::link::agreement;
use crate::link::counters::Counter;
use crate::link::hello::Hello;
use crate::quic::datagram_size;
use crate::quic::repair::{Event, Repairer};
use crate::quic::settings::{self, SocketBuffers};
use crate::quic::signal::Signal;
use crate::quic::tls::{self, TlsError};
use crate::repair::Demand;
use crate::trust::{Fingerprint, Verdict};

use super::client_socket::ClientSocket;
use super::config::ClientConfig;
use super::error::{
    describe, describe_refusal, judge_handshake, socket_error, AttemptError, ClientError,
    NOBODY_LISTENS,
};
use super::exchange::exchange;
use super::introduction::{Introduction, Order};

/// A connection to a trusted server; the hello is sent but not answered yet.
#[derive(Debug)]
pub(super) struct Link {
    pub connection: Connection,
    pub prober: Arc<Prober>,
    pub repairer: Arc<Repairer>,
    pub introduction: Introduction,
    pub buffers: SocketBuffers,
    endpoint: Endpoint,
    socket: Arc<ClientSocket>,
    keep_alive: Duration,
}

/// TLS sessions of earlier handshakes. To a server that it has met, a client sends its hello with
/// the first flight.
#[derive(Default)]
pub(super) struct Sessions {
    /// What the path to the server loses.
    demand: Arc<Mutex<Demand>>,
    repairs: Arc<RepairCounts>,
    verdict: Arc<Verdict>,
    /// Made at the first attempt. The sessions were made with servers that `ClientConfig::trust`
    /// accepted, and only those servers can resume them.
    tls: OnceLock<Arc<QuicClientConfig>>,
}

/// What the repair of a client's messages came to, over all its connections.
#[derive(Debug, Default)]
pub struct RepairCounts {
    /// Bytes of repair sent with requests.
    pub bytes_sent: Counter,
    /// Answers of which repair replaced lost packets.
    pub answers_rebuilt: Counter,
    /// Answers whose repair was wrong, which cost nothing but that.
    pub refused: Counter,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl Sessions {
    pub fn repairs(&self) -> &RepairCounts {
        &self.repairs
    }

    fn repairer(&self, connection: &Connection) -> Repairer {
        let counts = self.repairs.clone();
        Repairer::new(
            connection.clone(),
            self.demand.clone(),
            move |event| match event {
                Event::Sent(bytes) => counts.bytes_sent.add(bytes as u64),
                Event::Rebuilt => counts.answers_rebuilt.add_one(),
                Event::Refused => counts.refused.add_one(),
            },
        )
    }

    fn tls(&self, config: &ClientConfig) -> Result<Arc<QuicClientConfig>, TlsError> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        let tls = tls::client(&config.trust, &config.server(), self.verdict.clone())?;
        Ok(self.tls.get_or_init(|| tls).clone())
    }
}

/// Least time for each address of a name.
const ADDRESS_TIME: Duration = Duration::from_secs(1);
/// Share of an attempt's time to wait for a relay, and for the lock of the file of known servers.
const PART: f32 = 0.5;
/// Between attempts to take that lock, which others hold for one small write.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// quinn's first probe follows after about a round trip and a half, its second after twice that, ...
const PROBE_ROUND_TRIPS: u32 = 5;
/// ... and its timers and a busy server take this.
const PROBE_SLACK: Duration = Duration::from_millis(100);
/// Time for a closed connection to tell its peer.
const FAREWELL_TIME: Duration = Duration::from_millis(20);

impl Link {
    pub fn is_up(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    pub fn estimate(&self) -> Option<LinkEstimate> {
        let connection = &self.connection;
        congestion::link_estimate(connection.congestion_state(), connection.rtt())
    }

    /// Wait until the connection has ended, and return why.
    pub async fn lost(&self) -> String {
        tokio::select! {
            error = self.connection.closed() => describe(&error),
            () = self.socket.server_is_gone() => {
                self.connection.close(Signal::Done.into(), b"");
                NOBODY_LISTENS.to_owned()
            }
        }
    }

    /// How long nothing has come from the server, and how long a round trip takes.
    pub fn quiet(&self) -> (Duration, Duration) {
        let heard = self.socket.last_heard();
        let quiet = std::time::Instant::now().saturating_duration_since(heard);
        (quiet, self.connection.rtt())
    }

    /// See [`unanswered_for`].
    pub fn silence(&self, asked: std::time::Instant, has_arrived: bool) -> Option<Duration> {
        unanswered_for(
            std::time::Instant::now(),
            self.socket.last_heard(),
            asked,
            self.connection.rtt(),
            has_arrived.then_some(self.keep_alive),
        )
    }

    pub async fn close(&self) {
        close(&self.endpoint, Signal::Done).await;
    }
}

/// Connect within `config.connect_timeout`, or `config.attempt_timeout` if that is less.
pub(super) async fn dial(config: &ClientConfig, sessions: &Sessions) -> Result<Link, AttemptError> {
    let until = Instant::now() + config.connect_timeout.min(config.attempt_timeout);
    let addresses = resolve(config, until).await?;
    let mut failure = AttemptError::again("the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - index) as u32;
        let part = share.mul_f32(PART);
        let attempt = dial_address(config, sessions, *address, part);
        let result = timeout(share.max(ADDRESS_TIME), attempt).await;
        match result.unwrap_or_else(|_| Err(AttemptError::again("the server is silent"))) {
            Ok(link) => return Ok(link),
            Err(AttemptError::Final(error)) => return Err(AttemptError::Final(error)),
            Err(again) => failure = again,
        }
    }
    Err(failure)
}

/// The addresses of the server, or of the relay in front of it.
async fn resolve(config: &ClientConfig, until: Instant) -> Result<Vec<SocketAddr>, AttemptError> {
    let (named, whose) = match &config.relay {
        Some(access) => ((access.host.as_str(), access.port), "relay"),
        None => ((config.host.as_str(), config.port), "host"),
    };
    match timeout_at(until, tokio::net::lookup_host(named)).await {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(error)) => Err(AttemptError::Again(format!(
            "cannot look up the {whose}'s name: {error}"
        ))),
        Err(_) => Err(AttemptError::Again(format!(
            "looking up the {whose}'s name takes too long"
        ))),
    }
}

async fn dial_address(
    config: &ClientConfig,
    sessions: &Sessions,
    address: SocketAddr,
    part: Duration,
) -> Result<Link, AttemptError> {
    sessions.verdict.forget();
    let (endpoint, socket, buffers) = open(config, sessions, address)?;
    let address = socket.server(part).await.map_err(AttemptError::Again)?;

    let connecting = endpoint
        .connect(address, config.trust.server_name(&config.host))
        .map_err(AttemptError::again)?;
    let refused = |error| {
        refused_certificate(config, &sessions.verdict)
            .unwrap_or_else(|| judge_handshake(&config.server(), error))
    };
    let (connection, early) = match connecting.into_0rtt() {
        Ok((connection, accepted)) => (connection, Some(accepted)),
        Err(connecting) => {
            let connected = unless_refused(&socket, connecting).await?;
            (connected.map_err(refused)?, None)
        }
    };
    if early.is_none() {
        remember(config, &connection, part).await?;
    }
    let prober = Arc::new(Prober::new(connection.clone()));
    let repairer = Arc::new(sessions.repairer(&connection));
    let mut introduction = introduce(config, &prober, &repairer).await?;
    if let Some(accepted) = early {
        if !unless_refused(&socket, accepted).await? {
            if let Some(error) = connection.close_reason() {
                return Err(refused(error));
            }
            remember(config, &connection, part).await?;
            // The server does not know the session, and discarded the hello.
            introduction = introduce(config, &prober, &repairer).await?;
        }
    }
    Ok(Link {
        connection,
        prober,
        repairer,
        introduction,
        buffers,
        endpoint,
        socket,
        keep_alive: config.link.keep_alive,
    })
}

/// How long nothing has come from the server, if that is more than two probes go unanswered.
///
/// What is under way is acknowledged within a round trip, unless the server has all of it: then only
/// `keep_alive` makes it answer, if it is given.
fn unanswered_for(
    now: std::time::Instant,
    heard: std::time::Instant,
    asked: std::time::Instant,
    round_trip: Duration,
    keep_alive: Option<Duration>,
) -> Option<Duration> {
    let expected = PROBE_ROUND_TRIPS * round_trip + PROBE_SLACK + keep_alive.unwrap_or_default();
    let waited = now.saturating_duration_since(heard.max(asked));
    (waited > expected).then(|| now.saturating_duration_since(heard))
}

/// Remember the server's certificate, if the trust is on first use. Waits up to `within` while
/// another program holds the file's lock, without blocking this thread, which closing the client
/// waits for.
async fn remember(
    config: &ClientConfig,
    connection: &Connection,
    within: Duration,
) -> Result<(), AttemptError> {
    let identity = connection.peer_identity();
    let chain = identity.and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    let Some(certificate) = chain.as_ref().and_then(|chain| chain.first()) else {
        return Ok(());
    };
    let got = Fingerprint::of_certificate(certificate);
    let untrusted = |refusal| {
        AttemptError::Final(ClientError::UntrustedServer {
            server: config.server(),
            refusal,
        })
    };
    let until = Instant::now() + within;
    while !config
        .trust
        .try_remember(&config.server(), got)
        .map_err(untrusted)?
    {
        if Instant::now() >= until {
            return Err(config.trust.locked().map_or_else(
                || AttemptError::again("nothing could be remembered"),
                untrusted,
            ));
        }
        sleep(LOCK_PAUSE).await;
    }
    Ok(())
}

/// The result of `future`, unless the server's host or the network refuses what is sent.
async fn unless_refused<T>(
    socket: &ClientSocket,
    future: impl Future<Output = T>,
) -> Result<T, AttemptError> {
    tokio::select! {
        result = future => Ok(result),
        refusal = socket.refused_once() => Err(AttemptError::again(describe_refusal(refusal))),
    }
}

fn open(
    config: &ClientConfig,
    sessions: &Sessions,
    address: SocketAddr,
) -> Result<(Endpoint, Arc<ClientSocket>, SocketBuffers), AttemptError> {
    let server = config.server();
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, config.local_port).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, config.local_port).into(),
    };
    let io_error = |error| socket_error(&server, error);
    let (socket, buffers) = settings::bind(local, &config.link).map_err(|error| {
        match error.kind() {
            // Used by our last connection, which is not closed yet, or by another program.
            std::io::ErrorKind::AddrInUse => AttemptError::again(format!(
                "UDP port {} of this computer is taken",
                config.local_port
            )),
            _ => io_error(error),
        }
    })?;
    let socket = ClientSocket::new(socket, address, config).map_err(io_error)?;
    let mut endpoint_config = EndpointConfig::default();
    endpoint_config
        .max_udp_payload_size(datagram_size::ORDINARY)
        .map_err(AttemptError::again)?;
    let mut endpoint = Endpoint::new_with_abstract_socket(
        endpoint_config,
        None,
        socket.for_quic(),
        Arc::new(TokioRuntime),
    )
    .map_err(io_error)?;

    let crypto = sessions.tls(config).map_err(AttemptError::again)?;
    let mut quinn_config = QuinnConfig::new(crypto);
    let transport = settings::client(&config.link, buffers, socket.largest_datagram());
    quinn_config.transport_config(Arc::new(transport));
    endpoint.set_default_client_config(quinn_config);
    Ok((endpoint, Arc::new(socket), buffers))
}

fn refused_certificate(config: &ClientConfig, verdict: &Verdict) -> Option<AttemptError> {
    let refusal = verdict.refusal()?;
    let server = config.server();
    Some(AttemptError::Final(ClientError::UntrustedServer {
        server,
        refusal,
    }))
}

async fn introduce(
    config: &ClientConfig,
    prober: &Arc<Prober>,
    repairer: &Arc<Repairer>,
) -> Result<Introduction, AttemptError> {
    let repair = config.link.repair.then(|| agreement::CODE.to_owned());
    let hello = Hello {
        repair,
        ..config.hello.clone()
    };
    let hello = hello
        .encode()
        .map_err(|error| AttemptError::Final(error.into()))?;
    let (prober, repairer) = (prober.clone(), repairer.clone());
    let (limit, server) = (config.answer_bytes, config.server());
    let exchange = async move {
        let hello = hello.into();
        let answer = exchange(&prober, &repairer, hello, 0, limit, &server).await?;
        let Some(metadata) = agreement::accepted(&answer[1..]) else {
            return Ok(answer);
        };
        repairer.agree();
        Ok([&answer[..1], metadata.as_ref()].concat().into())
    };
    Ok(Introduction::begin(exchange, config.connect_timeout, Order::Open).await)
}

async fn close(endpoint: &Endpoint, signal: Signal) {
    endpoint.close(signal.into(), b"");
    // Time for the CONNECTION_CLOSE to be sent; the peer's side of the close is not awaited.
    let _ = timeout(FAREWELL_TIME, endpoint.wait_idle()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Asked at 1 s on a path of 20 ms; the result at so many milliseconds.
    fn silence(at: u32, heard: u32, has_arrived: bool) -> Option<Duration> {
        let start = std::time::Instant::now();
        let keep_alive = has_arrived.then_some(1_000 * MILLISECOND);
        unanswered_for(
            start + at * MILLISECOND,
            start + heard * MILLISECOND,
            start + 1_000 * MILLISECOND,
            20 * MILLISECOND,
            keep_alive,
        )
    }

    #[test]
    fn a_link_is_silent_when_two_probes_of_a_request_are_unanswered() {
        assert_eq!(silence(1_150, 900, false), None);
        assert_eq!(silence(1_300, 900, false), Some(400 * MILLISECOND));
        // Parts were acknowledged.
        assert_eq!(silence(1_300, 1_250, false), None);
        assert_eq!(silence(1_500, 1_250, false), Some(250 * MILLISECOND));
    }

    #[test]
    fn a_server_that_computes_has_only_keep_alives_to_answer() {
        assert_eq!(silence(1_900, 1_030, true), None);
        assert_eq!(silence(2_400, 1_030, true), Some(1_370 * MILLISECOND));
    }
}
