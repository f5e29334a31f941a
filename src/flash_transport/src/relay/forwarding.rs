//! What a relay does with each datagram: who is registered, and where datagrams go. Pure.
//!
//! An address counts only after its owner has returned the cookie that was sent there, and no
//! answer to an address before that is longer than what came from it. What is kept is bounded by
//! [`RelayLimits`]; strangers leave nothing behind.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ring::hmac;
use ring::rand::SystemRandom;

use super::bucket::Bucket;
use super::message::{self, Cookie, EndId, Message, Refusal, Signed, CHALLENGE, LIFETIME};
use super::token::{self, Name, Role, Token};
use crate::link::admission::network_of;

/// What a relay allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RelayLimits {
    /// Clients in all, of a name, and of an address (an IPv6 /64 counts as one).
    pub clients: usize,
    pub clients_of_name: usize,
    pub clients_of_address: usize,
    /// Bytes a second of a client, in each direction.
    pub bytes_per_second: f64,
    /// Bytes that may come at once after a pause: the first flight of a connection and more.
    pub burst_bytes: f64,
    /// Answers a second to addresses that have proved nothing.
    pub challenges_per_second: f64,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            clients: 1024,
            clients_of_name: 256,
            clients_of_address: 128,
            bytes_per_second: 25e6,
            burst_bytes: 8e6,
            challenges_per_second: 1000.0,
        }
    }
}

/// Cookies change so often, and the one before counts, too.
const COOKIE_PERIOD: Duration = Duration::from_secs(60);
/// Registrations of one end are read so often.
const RENEWALS_PER_SECOND: f64 = 10.0;

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It goes on as it is.
    Forward(SocketAddr),
    /// It was read; [`Relay::take_answers`] may hold something.
    Read,
    Drop,
}

/// For the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayEvent {
    Registered(Name, Role, SocketAddr),
    Ended(Name, Role),
    Refused(Name, Role, SocketAddr, Refusal),
}

impl fmt::Display for RelayEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered(name, role, address) => {
                write!(formatter, "{name}: {role} registered from {address}")
            }
            Self::Ended(name, role) => write!(formatter, "{name}: {role} is gone"),
            Self::Refused(name, role, address, refusal) => {
                write!(formatter, "{name}: {role} at {address} refused: {refusal}")
            }
        }
    }
}

pub struct Relay {
    tokens: HashMap<Name, Token>,
    limits: RelayLimits,
    secret: hmac::Key,
    started: Instant,
    servers: HashMap<Name, Server>,
    clients: HashMap<EndId, Client>,
    /// Holds no zeros.
    of_address: HashMap<IpAddr, usize>,
    strangers: Bucket,
    refusals_told: Bucket,
    answers: Vec<(SocketAddr, Vec<u8>)>,
    events: Vec<RelayEvent>,
}

/// A registered end.
struct Place {
    address: SocketAddr,
    local: Option<SocketAddr>,
    cookie: Cookie,
    renewed: Instant,
    renewals: Bucket,
}

struct Server {
    end: EndId,
    place: Place,
}

struct Client {
    name: Name,
    place: Place,
    /// Whose share of `of_address` it has.
    network: IpAddr,
    up: Bucket,
    down: Bucket,
}

/// A registration, as it was sent.
struct Asked<'a> {
    role: Role,
    end: EndId,
    cookie: Cookie,
    name: Name,
    local: Option<SocketAddr>,
    signed: Signed<'a>,
}

impl Relay {
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn new(
        tokens: HashMap<Name, Token>,
        limits: RelayLimits,
        now: Instant,
    ) -> Result<Self, ring::error::Unspecified> {
        Ok(Self {
            tokens,
            limits,
            secret: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?,
            started: now,
            servers: HashMap::new(),
            clients: HashMap::new(),
            of_address: HashMap::new(),
            strangers: Bucket::new(limits.challenges_per_second, limits.challenges_per_second),
            refusals_told: Bucket::new(1.0, 10.0),
            answers: Vec::new(),
            events: Vec::new(),
        })
    }

    pub fn handle(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Step {
        match Message::parse(datagram) {
            Some(Message::Data { connection, .. }) => {
                self.forward(now, from, connection, datagram.len())
            }
            Some(Message::Register {
                role,
                end,
                cookie,
                name,
                local,
                signed,
            }) => {
                let asked = Asked {
                    role,
                    end,
                    cookie,
                    name,
                    local,
                    signed,
                };
                self.register(now, from, asked);
                Step::Read
            }
            _ => Step::Drop,
        }
    }

    /// Datagrams to send.
    pub fn take_answers(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.answers)
    }

    pub fn take_events(&mut self) -> Vec<RelayEvent> {
        std::mem::take(&mut self.events)
    }

    /// Forget what was not renewed. To be called about once a second.
    pub fn expire(&mut self, now: Instant) {
        let Self {
            servers,
            clients,
            of_address,
            events,
            ..
        } = self;
        servers.retain(|name, server| {
            let lives = server.place.lives(now);
            if !lives {
                events.push(RelayEvent::Ended(name.clone(), Role::Server));
            }
            lives
        });
        clients.retain(|_, client| {
            let lives = client.place.lives(now);
            if !lives {
                give_back(of_address, client.network);
                events.push(RelayEvent::Ended(client.name.clone(), Role::Client));
            }
            lives
        });
    }

    fn forward(&mut self, now: Instant, from: SocketAddr, connection: EndId, size: usize) -> Step {
        let way = self.clients.get_mut(&connection).and_then(|client| {
            let server = self.servers.get(&client.name)?;
            if !client.place.lives(now) || !server.place.lives(now) {
                return None;
            }
            if from == client.place.address {
                return Some((server.place.address, &mut client.up));
            }
            (from == server.place.address).then_some((client.place.address, &mut client.down))
        });
        match way {
            Some((to, bucket)) => match bucket.take(now, size as f64) {
                true => Step::Forward(to),
                false => Step::Drop,
            },
            // Registered before the relay was restarted, or from another address.
            None if size >= CHALLENGE => {
                self.challenge(now, from, connection);
                Step::Read
            }
            None => Step::Drop,
        }
    }

    fn register(&mut self, now: Instant, from: SocketAddr, asked: Asked<'_>) {
        let period = self.period(now);
        let is_current = |period| token::equal(&self.cookie(period, from), &asked.cookie);
        if !is_current(period) && !is_current(period.saturating_sub(1)) {
            self.challenge(now, from, asked.end);
            return;
        }
        let Some(token) = self.token_of(&asked) else {
            self.refuse(now, from, &asked, Refusal::NotAdmitted);
            return;
        };
        let place = Place {
            address: from,
            local: asked.local,
            cookie: asked.cookie,
            renewed: now,
            renewals: Bucket::new(RENEWALS_PER_SECOND, RENEWALS_PER_SECOND),
        };
        let entered = match asked.role {
            Role::Client => self.enter_client(now, &asked, place),
            _ => self.enter_server(now, &asked, place),
        };
        match entered {
            Ok(true) => {}
            Ok(false) => return,
            Err(refusal) => {
                self.refuse(now, from, &asked, refusal);
                return;
            }
        }
        let registered = message::registered(asked.end, asked.cookie, from, &token);
        self.answers.push((from, registered));
        if asked.role == Role::Client {
            self.introduce(now, from, &asked, &token);
        }
    }

    fn token_of(&self, asked: &Asked<'_>) -> Option<Token> {
        let token = self.tokens.get(&asked.name)?;
        asked.signed.is_of(token, asked.role).then(|| token.clone())
    }

    /// Whether the registration counts; it does not if it is one of too many.
    fn enter_server(
        &mut self,
        now: Instant,
        asked: &Asked<'_>,
        place: Place,
    ) -> Result<bool, Refusal> {
        let known = self.servers.get_mut(&asked.name);
        if let Some(server) = known.filter(|server| server.place.lives(now)) {
            if server.end != asked.end {
                return Err(Refusal::Taken);
            }
            return Ok(server.place.renew(now, place));
        }
        let event = RelayEvent::Registered(asked.name.clone(), Role::Server, place.address);
        self.events.push(event);
        let end = asked.end;
        self.servers
            .insert(asked.name.clone(), Server { end, place });
        Ok(true)
    }

    fn enter_client(
        &mut self,
        now: Instant,
        asked: &Asked<'_>,
        place: Place,
    ) -> Result<bool, Refusal> {
        if let Some(client) = self.clients.get_mut(&asked.end) {
            if client.name != asked.name {
                return Err(Refusal::NotAdmitted);
            }
            return Ok(client.place.renew(now, place));
        }
        let limits = &self.limits;
        let network = network_of(place.address.ip());
        let of_address = self.of_address.get(&network).copied().unwrap_or(0);
        let of_name = self.clients.values();
        let of_name = of_name.filter(|client| client.name == asked.name).count();
        if self.clients.len() >= limits.clients
            || of_name >= limits.clients_of_name
            || of_address >= limits.clients_of_address
        {
            return Err(Refusal::Full);
        }
        self.of_address.insert(network, of_address + 1);
        let event = RelayEvent::Registered(asked.name.clone(), Role::Client, place.address);
        self.events.push(event);
        let bucket = Bucket::new(limits.bytes_per_second, limits.burst_bytes);
        let client = Client {
            name: asked.name.clone(),
            place,
            network,
            up: bucket,
            down: bucket,
        };
        self.clients.insert(asked.end, client);
        Ok(true)
    }

    /// Tell a client and its server of each other.
    fn introduce(&mut self, now: Instant, from: SocketAddr, asked: &Asked<'_>, token: &Token) {
        let server = self.servers.get(&asked.name);
        let Some(server) = server.filter(|server| server.place.lives(now)) else {
            self.refuse(now, from, asked, Refusal::Absent);
            return;
        };
        let place = &server.place;
        let of_client = message::peer(asked.end, place.cookie, from, asked.local, token);
        let of_server = message::peer(asked.end, asked.cookie, place.address, place.local, token);
        self.answers.push((place.address, of_client));
        self.answers.push((from, of_server));
    }

    fn challenge(&mut self, now: Instant, to: SocketAddr, end: EndId) {
        if self.strangers.take(now, 1.0) {
            let cookie = self.cookie(self.period(now), to);
            self.answers.push((to, message::challenge(end, cookie)));
        }
    }

    fn refuse(&mut self, now: Instant, to: SocketAddr, asked: &Asked<'_>, refusal: Refusal) {
        self.answers
            .push((to, message::refused(asked.end, refusal)));
        if refusal != Refusal::Absent && self.refusals_told.take(now, 1.0) {
            let (name, role) = (asked.name.clone(), asked.role);
            self.events
                .push(RelayEvent::Refused(name, role, to, refusal));
        }
    }

    fn period(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs() / COOKIE_PERIOD.as_secs()
    }

    fn cookie(&self, period: u64, address: SocketAddr) -> Cookie {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(&period.to_be_bytes());
        context.update(address.to_string().as_bytes());
        let mut cookie = [0; 16];
        cookie.copy_from_slice(&context.sign().as_ref()[..16]);
        cookie
    }
}

impl Place {
    fn lives(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.renewed) < LIFETIME
    }

    /// Whether it may be renewed again.
    fn renew(&mut self, now: Instant, place: Self) -> bool {
        let may = self.renewals.take(now, 1.0);
        if may {
            let renewals = self.renewals;
            *self = Self { renewals, ..place };
        }
        may
    }
}

fn give_back(of_address: &mut HashMap<IpAddr, usize>, network: IpAddr) {
    match of_address.get_mut(&network) {
        Some(count) if *count > 1 => *count -= 1,
        _ => {
            of_address.remove(&network);
        }
    }
}

#[cfg(test)]
mod tests;
