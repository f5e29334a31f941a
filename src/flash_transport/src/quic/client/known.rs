//! What a client has learned of its server.

use bytes::Bytes;

#[cfg(doc)]
use super::message::DEADLINE_KEY;
use crate::quic::settings::SocketBuffers;

/// What the last connection told.
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    /// None until its hello is answered.
    pub metadata: Option<Bytes>,
    pub buffers: Option<SocketBuffers>,
    /// Whether the server, when it last said so, reads [`DEADLINE_KEY`].
    pub takes_deadlines: bool,
}
