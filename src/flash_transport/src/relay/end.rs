//! What one end of relayed connections does with each datagram, and where it sends. Pure.
//!
//! A client has one peer, its server; a server has one for each client that the relay tells of.
//! QUIC knows a peer by an address that stands for it, whichever way its datagrams take. These
//! addresses are of 240.0.0.0/4, which no host has. Peers of one network share an IP address, so
//! that what a server allows an address holds for those behind the relay, too.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::message::{self, Cookie, EndId, Message, Refusal, Signed, DATA_HEADER};
use super::path::Path;
use super::registration::{Applicant, Registration, Standing};
use super::token::Role;
use crate::link::admission::network_of;

/// A peer of which nothing was heard for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);
/// Clients of a server; the relay allows fewer.
const MOST_PEERS: usize = 1024;
/// The network of the addresses that stand for peers.
const STANDING_FOR_PEERS: u32 = 0xf000_0000;

/// What a datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// One of QUIC, behind a header, from the peer that this address stands for.
    Quic(SocketAddr),
    /// Ours, and read.
    Read,
    /// Of somebody who knows nothing of the relay.
    Foreign,
}

#[derive(Debug)]
pub struct End {
    /// `None` until its name is looked up.
    relay: Option<SocketAddr>,
    registration: Registration,
    peers: HashMap<EndId, Peer>,
    by_address: HashMap<SocketAddr, EndId>,
    hasher: RandomState,
    /// Answers that wait to be sent.
    answers: Vec<(SocketAddr, Vec<u8>)>,
}

#[derive(Debug)]
struct Peer {
    stands_for_it: SocketAddr,
    path: Path,
    heard: Instant,
    /// Whether the relay has told of it.
    is_introduced: bool,
    /// Whether a datagram of QUIC has come from it.
    has_spoken: bool,
}

impl End {
    pub fn new(applicant: Applicant, now: Instant) -> Self {
        let (role, connection) = (applicant.role, applicant.end);
        let mut end = Self {
            relay: None,
            registration: Registration::new(applicant, now),
            peers: HashMap::new(),
            by_address: HashMap::new(),
            hasher: RandomState::new(),
            answers: Vec::new(),
        };
        if role == Role::Client {
            end.enter(now, connection, SocketAddr::from(([240, 0, 0, 1], 1)));
        }
        end
    }

    pub fn standing(&self, now: Instant) -> Standing {
        self.registration.standing(now)
    }

    /// The address that stands for a client's server, when the relay has told of it.
    pub fn server(&self) -> Option<SocketAddr> {
        let peer = self.peers.get(&self.registration.applicant().end)?;
        peer.is_introduced.then_some(peer.stands_for_it)
    }

    /// Where the relay is, which may change, and from where this end sends to it.
    pub fn set_relay(&mut self, relay: SocketAddr, local: Option<SocketAddr>) {
        self.relay = Some(canonical(relay));
        self.registration.set_local(local);
    }

    /// Whether no datagram with this first byte is for us, whoever sent it.
    pub fn is_foreign(first: Option<&u8>) -> bool {
        first.is_none_or(|kind| !message::KINDS_OF_ENDS.contains(kind))
    }

    pub fn handle(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Incoming {
        let from = canonical(from);
        match Message::parse(datagram) {
            Some(Message::Data { connection, .. }) => self.data(now, from, connection),
            Some(Message::Probe {
                connection,
                nonce,
                signed,
            }) => self.probed(now, from, connection, nonce, signed),
            Some(Message::Reached {
                connection,
                nonce,
                signed,
            }) => self.reached(now, connection, nonce, signed),
            Some(said) if self.is_relay(from) => {
                self.told(now, said);
                Incoming::Read
            }
            _ if self.is_relay(from) => Incoming::Read,
            _ => Incoming::Foreign,
        }
    }

    /// Where to send a datagram of QUIC for the peer that `address` stands for, and what comes
    /// before it.
    pub fn way_to(
        &mut self,
        now: Instant,
        address: SocketAddr,
    ) -> Option<(SocketAddr, [u8; DATA_HEADER])> {
        let connection = *self.by_address.get(&canonical(address))?;
        let peer = self.peers.get_mut(&connection)?;
        let to = peer.path.direct(now).or(self.relay)?;
        Some((to, message::data_header(connection)))
    }

    /// When to [`poll`](Self::poll) next.
    pub fn due(&self) -> Instant {
        let probes = self.peers.values().filter_map(|peer| peer.path.due());
        probes.fold(self.registration.due(), Instant::min)
    }

    /// The datagrams to send now, besides those of QUIC.
    pub fn poll(&mut self, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut sends = std::mem::take(&mut self.answers);
        if let Some(registration) = self.registration.poll(now) {
            sends.extend(self.relay.map(|relay| (relay, registration)));
            self.forget(now);
        }
        let Applicant { role, token, .. } = self.registration.applicant();
        for (connection, peer) in &mut self.peers {
            for (to, nonce) in peer.path.poll(now) {
                sends.push((to, message::probe(*role, *connection, nonce, token)));
            }
        }
        sends
    }

    /// Whether there is something to send before [`due`](Self::due).
    pub fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    fn data(&mut self, now: Instant, from: SocketAddr, connection: EndId) -> Incoming {
        let is_relay = self.is_relay(from);
        match self.peers.get_mut(&connection) {
            Some(peer) => {
                (peer.heard, peer.has_spoken) = (now, true);
                Incoming::Quic(peer.stands_for_it)
            }
            None if is_relay => Incoming::Read,
            None => Incoming::Foreign,
        }
    }

    fn probed(
        &mut self,
        now: Instant,
        from: SocketAddr,
        connection: EndId,
        nonce: u64,
        signed: Signed<'_>,
    ) -> Incoming {
        let Applicant { role, token, .. } = self.registration.applicant();
        let Some(peer) = self.peers.get_mut(&connection) else {
            return Incoming::Foreign;
        };
        if signed.is_of(token, role.peer()) {
            peer.heard = now;
            // Behind some NATs the peer sends to us from another address than to the relay.
            peer.path.learn(now, from);
            let answer = message::reached(*role, connection, nonce, token);
            self.answers.push((from, answer));
        }
        Incoming::Read
    }

    fn reached(
        &mut self,
        now: Instant,
        connection: EndId,
        nonce: u64,
        signed: Signed<'_>,
    ) -> Incoming {
        let Applicant { role, token, .. } = self.registration.applicant();
        let Some(peer) = self.peers.get_mut(&connection) else {
            return Incoming::Foreign;
        };
        if signed.is_of(token, role.peer()) {
            peer.path.reached(now, nonce);
        }
        Incoming::Read
    }

    /// What the relay says.
    fn told(&mut self, now: Instant, said: Message<'_>) {
        match said {
            Message::Challenge { end, cookie } if self.is_ours(end) => {
                self.registration.challenged(now, cookie);
            }
            Message::Refused { end, refusal } if end == self.registration.applicant().end => {
                self.registration.refused(now, refusal);
            }
            Message::Registered {
                end,
                cookie,
                public: Some(public),
                signed,
            } if end == self.registration.applicant().end && self.is_said(cookie, signed) => {
                let waits = |peer: &Peer| !peer.has_spoken;
                let is_in_a_hurry = self.peers.get(&end).is_some_and(waits);
                self.registration
                    .registered(now, canonical(public), is_in_a_hurry);
            }
            Message::Peer {
                connection,
                cookie,
                public: Some(public),
                local,
                signed,
            } if self.is_said(cookie, signed) => {
                self.introduced(now, connection, canonical(public), local.map(canonical));
            }
            _ => {}
        }
    }

    fn is_relay(&self, address: SocketAddr) -> bool {
        self.relay == Some(address)
    }

    fn is_ours(&self, end: EndId) -> bool {
        end == self.registration.applicant().end || self.peers.contains_key(&end)
    }

    fn is_said(&self, cookie: Cookie, signed: Signed<'_>) -> bool {
        let token = &self.registration.applicant().token;
        self.registration.cookie() == Some(cookie) && signed.is_of(token, Role::Relay)
    }

    fn introduced(
        &mut self,
        now: Instant,
        connection: EndId,
        public: SocketAddr,
        local: Option<SocketAddr>,
    ) {
        if !self.peers.contains_key(&connection) {
            let is_server = self.registration.applicant().role == Role::Server;
            match self.free_address(public.ip()) {
                Some(address) if is_server && self.peers.len() < MOST_PEERS => {
                    self.enter(now, connection, address);
                }
                _ => return,
            }
        }
        let seen = match self.registration.standing(now) {
            Standing::Registered(seen) => Some(seen.ip()),
            Standing::Silent | Standing::Refused(_) => None,
        };
        // Elsewhere it would be the address of somebody else.
        let local = local.filter(|_| seen == Some(public.ip()));
        let relay = self.relay;
        let usable = [Some(public), local].into_iter().flatten();
        let usable = usable.filter(|address| relay.is_some_and(|at| may_be_probed(*address, at)));
        if let Some(peer) = self.peers.get_mut(&connection) {
            (peer.heard, peer.is_introduced) = (now, true);
            usable.for_each(|address| peer.path.learn(now, address));
        }
    }

    fn enter(&mut self, now: Instant, connection: EndId, stands_for_it: SocketAddr) {
        let peer = Peer {
            stands_for_it,
            path: Path::new(self.hasher.hash_one(connection)),
            heard: now,
            is_introduced: false,
            has_spoken: false,
        };
        self.peers.insert(connection, peer);
        self.by_address.insert(stands_for_it, connection);
    }

    /// An address for another peer of the network of `ip`.
    fn free_address(&self, ip: IpAddr) -> Option<SocketAddr> {
        let number = self.hasher.hash_one(network_of(ip)) as u32;
        // Never the broadcast address.
        let ip = Ipv4Addr::from(STANDING_FOR_PEERS | (number >> 5));
        let mut ports = (1..=u16::MAX).map(|port| SocketAddr::from((ip, port)));
        ports.find(|address| !self.by_address.contains_key(address))
    }

    fn forget(&mut self, now: Instant) {
        if self.registration.applicant().role == Role::Client {
            return;
        }
        let by_address = &mut self.by_address;
        self.peers.retain(|_, peer| {
            let is_heard = now.saturating_duration_since(peer.heard) < FORGOTTEN_AFTER;
            if !is_heard {
                by_address.remove(&peer.stands_for_it);
            }
            is_heard
        });
    }
}

/// Whether `address` stands for a peer.
pub fn stands_for_a_peer(address: SocketAddr) -> bool {
    match canonical(address).ip() {
        IpAddr::V4(ip) => ip.octets()[0] >= 240,
        IpAddr::V6(_) => false,
    }
}

/// Why the relay does not carry anything, as a clause.
pub fn why_not(standing: Standing) -> String {
    match standing {
        Standing::Silent => "the relay is silent".to_owned(),
        Standing::Registered(_) => "the relay has not told of the server".to_owned(),
        Standing::Refused(refusal @ Refusal::NotAdmitted) => {
            format!("{refusal}: compare both with the relay's token file")
        }
        Standing::Refused(refusal) => refusal.to_string(),
    }
}

/// IPv4 addresses in one form, whichever socket saw them.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether a relay may make us send there: to a host, of the family that our socket has, and within
/// this computer only if the relay is there, too.
fn may_be_probed(address: SocketAddr, relay: SocketAddr) -> bool {
    let ip = address.ip();
    let is_host = !ip.is_unspecified() && !ip.is_multicast() && address.port() != 0;
    let is_near = !ip.is_loopback() || relay.ip().is_loopback();
    let is_reachable = ip.is_ipv4() == relay.ip().is_ipv4();
    is_host && is_near && is_reachable && !stands_for_a_peer(address) && address != relay
}

#[cfg(test)]
mod tests;
