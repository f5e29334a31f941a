//! One client, as the threads that answer share it with the one that reads.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};

use super::in_flight::InFlight;
use super::outbox::Outbox;
use crate::link::limits::{Account, Budget, ServerLimits};
use crate::link::wire::{ErrorCode, Failure};
use crate::local::frame::Header;
use crate::local::socket;

/// What the threads that answer share with the one that reads.
pub(super) struct Peer {
    /// `pid=…,uid=…#connection`
    pub name: Arc<str>,
    pub stream: UnixStream,
    pub outbox: Arc<Outbox>,
    pub in_flight: InFlight,
    /// Set by the one good hello.
    pub session: OnceLock<Arc<str>>,
    pub account: Arc<Account>,
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
            name: format!("{}#{number}", socket::peer_name(&stream)).into(),
            outbox: Arc::new(Outbox::new(stream.try_clone()?)),
            stream,
            in_flight: InFlight::default(),
            session: OnceLock::new(),
            account: Account::new(limits, budget.clone()),
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
