//! Orders to a client's IO thread.

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
    /// The session in which a newer request supersedes this one; None: no request does.
    pub line: Option<String>,
    pub reply: Reply,
    pub abandoned: Abandoned,
}
