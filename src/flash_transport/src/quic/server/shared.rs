//! What a server's IO thread, its tasks and the policy's threads share.

use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::admission::AdmissionControl;
use super::peers::Peers;
use crate::link::server_core::ServerCore;

/// How long a stopping server, or one that turns a client away, waits for its last words to arrive.
pub(super) const FLUSH_TIME: Duration = Duration::from_secs(1);

/// What the IO thread, its tasks and the policy's threads share.
pub(super) struct Shared {
    pub core: ServerCore,
    /// Of a connection whose client is known, if there are not too many.
    pub receive_window: u32,
    pub admission: Arc<AdmissionControl>,
    pub peers: Arc<Peers>,
    /// Only moves forward.
    pub stage: watch::Sender<Stage>,
    /// Each stream holds a copy until its answer is out.
    pub busy: mpsc::WeakSender<()>,
    /// The IO thread ended although nobody closed the server.
    pub broken: AtomicBool,
}

/// Where a server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Serving,
    /// Finishes what it has accepted, and accepts nothing.
    Draining,
    Closing,
}

impl Shared {
    pub fn enter(&self, stage: Stage) {
        self.stage.send_if_modified(|current| {
            let forward = *current < stage;
            *current = stage.max(*current);
            forward
        });
    }
}
