//! `TransportClient`, on which `FlashTransportPolicy` is built.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::codec::{self, Arrays};
use super::errors::CodecError;
use super::log::warn_of_small_buffers;
use super::trust::server_trust;
use super::wait::{duration, wait_for, without_gil};
use crate::buffers::Buffer;
use crate::link::address::ServerAddress;
use crate::link::first_actions::FIRST_ACTIONS_KEY;
use crate::link::hello::{check_session, random_session, Hello};
use crate::link::keys::ApiKey;
use crate::link::wire::Kind;
use crate::quic::client::{
    Answer, Client, ClientConfig, ClientError, Interest, Mail, Mailbox, Message, Pending, Standing,
    Ticket, DEADLINE_KEY,
};
use crate::quic::settings::LinkSettings;
use crate::relay::access::RelayAccess;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<TransportClient>()?;
    module.add_class::<Completions>()?;
    module.add_class::<PackedRequest>()
}

/// The arguments of `flash_transport.CallStats`.
pub type CallNumbers = (f64, f64, usize, usize, u32, f64);

/// A client of one server. Any number of threads may share it.
#[pyclass(frozen, module = "flash_transport._native")]
struct TransportClient {
    client: Client,
    session: String,
    connect_timeout: Duration,
    /// Held as long as a connection is wanted.
    connecting: Mutex<Option<Pending>>,
}

/// Number, name, reason, exception, and seconds since the server was heard and of a round trip.
type PyStanding = (u64, &'static str, String, Option<PyErr>, Option<(f64, f64)>);

#[pymethods]
impl TransportClient {
    #[new]
    #[pyo3(signature = (host, port, *, api_key, server_fingerprint, ca_file, known_servers, session, connect_timeout,
                        dedicated_link, attempt_timeout = None, requests_connect = true, relay = None,
                        relay_token_file = None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        py: Python<'_>,
        host: &str,
        port: Option<i64>,
        api_key: Option<String>,
        server_fingerprint: Option<&str>,
        ca_file: Option<PathBuf>,
        known_servers: Option<PathBuf>,
        session: Option<String>,
        connect_timeout: f64,
        dedicated_link: bool,
        attempt_timeout: Option<f64>,
        requests_connect: bool,
        relay: Option<&str>,
        relay_token_file: Option<PathBuf>,
    ) -> PyResult<Self> {
        let Some(connect_timeout) = duration("connect_timeout", Some(connect_timeout))? else {
            return Err(PyValueError::new_err("connect_timeout must have an end"));
        };
        let (host, port) = destination(host, port)?;
        let api_key = api_key.map(ApiKey::new).transpose()?;
        let session = session.unwrap_or_else(random_session);
        check_session(&session).map_err(ClientError::from)?;
        let trust = server_trust(server_fingerprint, ca_file, known_servers)?;
        let relay = match (relay, relay_token_file) {
            (None, None) => None,
            (Some(relay), Some(file)) => Some(RelayAccess::read(relay, &host, &file)?),
            _ => {
                return Err(PyValueError::new_err(
                    "give relay and relay_token_file together, or none of them",
                ))
            }
        };
        let mut config = ClientConfig::new(host, port, trust);
        config.relay = relay;
        config.connect_timeout = connect_timeout;
        config.attempt_timeout =
            duration("attempt_timeout", attempt_timeout)?.unwrap_or(Duration::MAX);
        config.requests_connect = requests_connect;
        config.link = LinkSettings::with_dedicated_link(dedicated_link);
        config.hello = Hello {
            client: Some("flash_transport".to_owned()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            api_key,
            session: Some(session.clone()),
            ..Hello::default()
        };
        let client = Client::new(config)?;
        if requests_connect {
            answer(py, client.connect(connect_timeout))?;
            if let Some(buffers) = client.socket_buffers() {
                warn_of_small_buffers(py, buffers)?;
            }
        }
        Ok(Self {
            client,
            session,
            connect_timeout,
            connecting: Mutex::new(None),
        })
    }

    /// Begin to connect, and try again after every failure, for at most `connect_timeout`.
    fn begin_connecting(&self) {
        let mut connecting = self.connecting();
        let is_under_way = |pending: &Pending| pending.wait(Duration::ZERO).is_none();
        if !connecting.as_ref().is_some_and(is_under_way) {
            *connecting = Some(self.client.connect(self.connect_timeout));
        }
    }

    /// Make no further attempt to connect; one that is under way goes on.
    fn stop_connecting(&self) {
        *self.connecting() = None;
    }

    /// Wait until the client's standing is no longer the one with the number `known`, for at most
    /// `within` seconds or until `nudge`. Its number; `up`, `down`, `not_ready` or `hopeless`; the
    /// reason as text or as an exception; the seconds since the server was heard and of a round
    /// trip, where it is up.
    fn standing(&self, py: Python<'_>, known: u64, within: f64) -> PyResult<PyStanding> {
        let within = duration("within", Some(within))?.unwrap_or(Duration::MAX);
        let seconds = |time: Duration| time.as_secs_f64();
        let (number, standing) = without_gil(py, || self.client.standing(known, within));
        Ok(match standing {
            Standing::Up { quiet, round_trip } => {
                let heard = Some((seconds(quiet), seconds(round_trip)));
                (number, "up", String::new(), None, heard)
            }
            Standing::Down(reason) => (number, "down", reason, None, None),
            Standing::NotReady(failure) => {
                let message = failure.message.clone();
                let error = PyErr::from(ClientError::Server(failure));
                (number, "not_ready", message, Some(error), None)
            }
            Standing::Hopeless(error) => {
                let reason = error.to_string();
                (number, "hopeless", reason, Some(error.into()), None)
            }
        })
    }

    /// End a wait of `standing`, the next one if none is under way.
    fn nudge(&self) {
        self.client.nudge();
    }

    /// The server as the user named it.
    #[getter]
    fn server(&self) -> &str {
        self.client.server()
    }

    /// Whether this is a copy in a forked process, which has no connection.
    #[getter]
    fn is_forked(&self) -> bool {
        self.client.is_forked()
    }

    /// The settings of the link, as the kernel granted them.
    #[getter]
    fn link_settings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let settings = PyDict::new(py);
        settings.set_item("dedicated_link", self.client.link().is_dedicated())?;
        if let Some(buffers) = self.client.socket_buffers() {
            settings.set_item("receive_buffer_bytes", buffers.receive)?;
            settings.set_item("send_buffer_bytes", buffers.send)?;
        }
        Ok(settings)
    }

    /// Whether the server reads images as JPEG; None until its first hello is answered.
    #[getter]
    fn reads_jpeg(&self) -> Option<bool> {
        self.client.reads_jpeg()
    }

    /// The arguments of `flash_transport.LinkEstimate`, of the current connection.
    #[getter]
    fn link_estimate(&self) -> Option<(f64, Option<f64>, f64)> {
        let estimate = self.client.link_estimate()?;
        Some((
            estimate.round_trip.as_secs_f64(),
            estimate.bits_per_second,
            estimate.queue.as_secs_f64(),
        ))
    }

    /// Send an observation and wait for the answer.
    fn infer(
        &self,
        py: Python<'_>,
        observation: &Bound<'_, PyDict>,
        timeout: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        let timeout = duration("timeout", timeout)?;
        let message = self.pack(py, observation, timeout, Arrays::Lent)?;
        let answer = answer(py, self.client.request(message, timeout))?;
        dict(py, answer.bytes)
    }

    /// As `infer`, with the cost of the call.
    fn infer_with_stats(
        &self,
        py: Python<'_>,
        observation: &Bound<'_, PyDict>,
        timeout: Option<f64>,
    ) -> PyResult<(Py<PyAny>, CallNumbers)> {
        let timeout = duration("timeout", timeout)?;
        let started = Instant::now();
        let message = self.pack(py, observation, timeout, Arrays::Lent)?;
        let serialize_ms = milliseconds(started.elapsed());
        let answer = answer(py, self.client.request(message, timeout))?;
        let numbers = numbers(serialize_ms, &answer);
        Ok((dict(py, answer.bytes)?, numbers))
    }

    /// The request of an observation, to be submitted once. It asks for `first_actions` steps ahead
    /// of the rest if the server may send them.
    #[pyo3(name = "pack")]
    fn packed(
        &self,
        py: Python<'_>,
        observation: &Bound<'_, PyDict>,
        timeout: Option<f64>,
        first_actions: Option<u32>,
    ) -> PyResult<PackedRequest> {
        let timeout = duration("timeout", timeout)?;
        let started = Instant::now();
        let first_actions = first_actions.filter(|_| self.client.gives_first_actions());
        let asking = match first_actions {
            Some(steps) => {
                let asking = observation.copy()?;
                asking.set_item(FIRST_ACTIONS_KEY, steps)?;
                asking
            }
            None => observation.clone(),
        };
        let observation = &asking;
        let mut message = self.pack(py, observation, timeout, Arrays::Copied)?;
        if let Some(steps) = first_actions {
            message = message.asking_first(steps);
        }
        let serialize_ms = milliseconds(started.elapsed());
        let session = match observation.get_item(intern!(py, "session"))? {
            // A session that is no text is left to the server to refuse.
            Some(named) => named.extract().unwrap_or_else(|_| self.session.clone()),
            None => self.session.clone(),
        };
        Ok(PackedRequest {
            serialize_ms,
            session,
            observation: message.clone(),
            state: Mutex::new(State::Packed(message)),
        })
    }

    /// Send a request; `completions` delivers its outcome under `ticket`.
    fn submit(
        &self,
        request: &PackedRequest,
        timeout: Option<f64>,
        ticket: Ticket,
    ) -> PyResult<()> {
        let timeout = duration("timeout", timeout)?;
        let mut state = request.lock();
        if let State::Packed(message) = std::mem::replace(&mut *state, State::Over) {
            let session = request.session.clone();
            let interest = self.client.submit(message, timeout, session, ticket)?;
            *state = State::Sent(interest);
        }
        Ok(())
    }

    /// The outcomes of submitted requests.
    #[getter]
    fn completions(&self) -> Completions {
        Completions {
            mailbox: self.client.mailbox(),
        }
    }

    /// The server's metadata from the current connection. Waits for it if necessary.
    fn get_server_metadata(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.client.metadata().is_none() {
            self.check_process()?;
            answer(py, self.client.meet(self.connect_timeout))?;
        }
        dict_from(py, self.client.metadata().unwrap_or_default().to_vec(), 0)
    }

    /// Start a new episode.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        self.check_process()?;
        let message = codec::encode_with_prefix(py, Kind::Reset.byte(), &PyDict::new(py))?;
        let pending = self.client.request(Message::new(message), Some(RESET_TIME));
        answer(py, pending).map(|_| ())
    }

    /// Close the connection. Requests of other threads end in Disconnected.
    fn close(&self, py: Python<'_>) {
        // Other threads that wait for an answer need the GIL to return.
        without_gil(py, || self.client.close());
    }
}

/// The server's port, unless configured otherwise.
const DEFAULT_PORT: u16 = 5555;

/// Where to connect to. A unix socket has no port.
fn destination(host: &str, port: Option<i64>) -> PyResult<(String, u16)> {
    match host.strip_prefix("unix:") {
        Some("") => Err(PyValueError::new_err(
            "host \"unix:\" holds no path: write unix: and the path of the server's socket",
        )),
        Some(_) => Ok((host.to_owned(), DEFAULT_PORT)),
        None => {
            let address = ServerAddress::parse(host, port)?;
            Ok((address.host, address.port.unwrap_or(DEFAULT_PORT)))
        }
    }
}

/// Time limit of a reset, which costs the server no time.
const RESET_TIME: Duration = Duration::from_secs(10);

impl TransportClient {
    /// The request of an observation, with its deadline if the server reads that.
    fn pack(
        &self,
        py: Python<'_>,
        observation: &Bound<'_, PyDict>,
        timeout: Option<Duration>,
        arrays: Arrays,
    ) -> PyResult<Message> {
        self.check_process()?;
        let takes_deadline = timeout.is_some()
            && self.client.takes_deadlines()
            && !observation.contains(DEADLINE_KEY)?;
        let key = takes_deadline.then_some(DEADLINE_KEY);
        let parts = codec::encode_parts(py, Kind::Infer.byte(), observation, key, arrays)?;
        Ok(match takes_deadline {
            true => Message::awaiting_deadline(parts),
            false => Message::of_parts(parts),
        })
    }

    fn connecting(&self) -> MutexGuard<'_, Option<Pending>> {
        self.connecting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn check_process(&self) -> PyResult<()> {
        if self.client.is_forked() {
            return Err(PyRuntimeError::new_err(format!(
                "this client of {} was made before a fork and has no connection here; make a new one after the fork",
                self.client.server()
            )));
        }
        Ok(())
    }
}

/// A request whose outcome `Completions` delivers.
#[pyclass(frozen, module = "flash_transport._native")]
struct PackedRequest {
    /// Time spent on packing it.
    #[pyo3(get)]
    serialize_ms: f64,
    session: String,
    /// Shares its bytes with the message that is sent.
    observation: Message,
    state: Mutex<State>,
}

enum State {
    Packed(Message),
    /// The request is cancelled when this is dropped.
    Sent(#[expect(dead_code, reason = "held, not read")] Interest),
    Over,
}

#[pymethods]
impl PackedRequest {
    /// Cancel the request: the server is told to drop it.
    fn cancel(&self) {
        *self.lock() = State::Over;
    }

    /// The observation as it was packed, to be sent another way.
    fn observation(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut pieces = self.observation.pieces(None);
        dict_from(py, pieces.as_mut_slice().concat(), 1)
    }
}

impl PackedRequest {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outcomes of submitted requests, in order of arrival.
#[pyclass(frozen, module = "flash_transport._native")]
struct Completions {
    mailbox: Arc<Mailbox>,
}

/// Ticket; first actions or answer, or None; error or None; round trip in milliseconds, bytes up and
/// down, attempts to connect, milliseconds to the first action; None with first actions, which a
/// completion with the answer follows.
type Completion = (
    Ticket,
    Option<Py<PyAny>>,
    Option<PyErr>,
    Option<(f64, usize, usize, u32, f64)>,
);

#[pymethods]
impl Completions {
    /// Wait for the next outcome; None when the client is closed and all outcomes were returned.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Completion>> {
        let mail = wait_for(py, |slice| match self.mailbox.next(slice) {
            Mail::Nothing => None,
            Mail::Over => Some(None),
            mail => Some(Some(mail)),
        })?;
        Ok(mail.and_then(|mail| match mail {
            Mail::First(ticket, map) => Some(match dict_from(py, map, 0) {
                Ok(first) => (ticket, Some(first), None, None),
                Err(error) => (ticket, None, Some(error), None),
            }),
            Mail::Outcome(ticket, Ok(answer)) => {
                let (_, round_trip, up, down, attempts, first) = numbers(0.0, &answer);
                let cost = Some((round_trip, up, down, attempts, first));
                Some(match dict(py, answer.bytes) {
                    Ok(answer) => (ticket, Some(answer), None, cost),
                    Err(error) => (ticket, None, Some(error), cost),
                })
            }
            Mail::Outcome(ticket, Err(error)) => {
                let cost = Some((0.0, 0, 0, 0, 0.0));
                Some((ticket, None, Some(error.into()), cost))
            }
            Mail::Nothing | Mail::Over => None,
        }))
    }
}

/// Wait for the answer; the client enforces the timeout.
pub fn answer(py: Python<'_>, pending: Pending) -> PyResult<Answer> {
    Ok(wait_for(py, move |slice| pending.wait(slice))??)
}

pub fn numbers(serialize_ms: f64, answer: &Answer) -> CallNumbers {
    (
        serialize_ms,
        milliseconds(answer.round_trip),
        answer.bytes_up,
        answer.bytes_down(),
        answer.connect_attempts,
        milliseconds(answer.until_first_action()),
    )
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The map of an answer, whose first byte is its kind.
pub fn dict(py: Python<'_>, answer: Buffer) -> PyResult<Py<PyAny>> {
    dict_from(py, answer, 1)
}

fn dict_from(py: Python<'_>, message: impl Into<Buffer>, offset: usize) -> PyResult<Py<PyAny>> {
    let value = codec::decode_owned(py, message, offset)?;
    if value.bind(py).is_instance_of::<PyDict>() {
        return Ok(value);
    }
    Err(CodecError::new_err(format!(
        "the server's answer is no map but a {}",
        value.bind(py).get_type().name()?
    )))
}
