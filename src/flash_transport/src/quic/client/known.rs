//! What a client knows about its server.

use bytes::Bytes;

#[cfg(doc)]
use super::message::DEADLINE_KEY;
#[cfg(doc)]
use crate::link::first_actions::FIRST_ACTIONS_KEY;
use crate::quic::settings::SocketBuffers;

/// Learned from the last connection.
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    /// None until its hello is answered.
    pub metadata: Option<Bytes>,
    pub buffers: Option<SocketBuffers>,
    /// Whether the server reads [`DEADLINE_KEY`], by its latest metadata.
    pub takes_deadlines: bool,
    /// Whether the server may send [`FIRST_ACTIONS_KEY`] ahead, by its latest metadata.
    pub gives_first_actions: bool,
    /// Whether it reads images as JPEG, by its latest metadata; None until it has sent some.
    pub reads_jpeg: Option<bool>,
}
