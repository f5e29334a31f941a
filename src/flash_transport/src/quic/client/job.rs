//! What a client's IO thread is told to do.

use std::time::{Duration, Instant};

use super::message::Message;
use super::reply::{Abandoned, Reply};

#[derive(Debug)]
pub(super) enum Job {
    Request(Request),
    Close,
}

#[derive(Debug)]
pub(super) struct Request {
    pub message: Message,
    pub timeout: Option<Duration>,
    pub asked: Instant,
    /// The session in which a newer request takes this one's place; None lets none do so.
    pub line: Option<String>,
    pub reply: Reply,
    pub abandoned: Abandoned,
}
