//! One client, as its reading thread and the answering threads share it.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use super::in_flight::InFlight;
use super::outbox::Outbox;
use crate::link::limits::{Account, Budget, ServerLimits};
use crate::link::server_core::PeerName;
use crate::link::wire::{ErrorCode, Failure};
use crate::local::frame::Header;
use crate::local::socket::{self, Process};

/// Shared by the thread that reads and the threads that answer.
pub(super) struct Peer {
    pub name: PeerName,
    pub stream: UnixStream,
    pub outbox: Arc<Outbox>,
    pub in_flight: InFlight,
    /// Set by the only good hello.
    pub session: OnceLock<Arc<str>>,
    pub account: Arc<Account>,
    /// Accepted requests that are not answered.
    pub accepted: Arc<AtomicUsize>,
}

impl Peer {
    pub fn new(
        limits: &ServerLimits,
        budget: &Arc<Budget>,
        stream: UnixStream,
        number: u64,
    ) -> io::Result<Arc<Self>> {
        socket::set_up(&stream);
        stream.set_write_timeout(Some(limits.answer_time))?;
        Ok(Arc::new(Self {
            name: peer_name(socket::peer_process(&stream), number),
            outbox: Arc::new(Outbox::new(stream.try_clone()?)),
            stream,
            in_flight: InFlight::default(),
            session: OnceLock::new(),
            account: Account::new(limits, budget.clone()),
            accepted: Arc::default(),
        }))
    }

    pub fn answer(&self, id: u32, answer: &[u8]) {
        match Header::of(id, answer.len()) {
            Some(header) => self.outbox.send(header, answer),
            None => self.fail(
                id,
                ErrorCode::Internal,
                "the answer is larger than a frame can be",
            ),
        }
    }

    pub fn fail(&self, id: u32, code: ErrorCode, message: &str) {
        self.answer(id, &Failure::new(code, message).encode());
    }
}

fn peer_name(process: Option<Process>, number: u64) -> PeerName {
    let (name, address) = match process {
        Some(Process { pid, uid }) => (format!("pid={pid},uid={uid}"), format!("uid={uid}")),
        None => ("local".to_owned(), "local".to_owned()),
    };
    PeerName {
        name: format!("{name}#{number}").into(),
        address: address.into(),
    }
}
