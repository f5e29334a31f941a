//! What a server's IO thread, its tasks and the policy's threads share.

use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::peers::Peers;
use crate::link::admission::AdmissionControl;
use crate::link::server_core::ServerCore;

/// How long a stopping or refusing server waits for its final packets to arrive.
pub(super) const FLUSH_TIME: Duration = Duration::from_secs(1);

/// What the IO thread, its tasks and the policy's threads share.
pub(super) struct Shared {
    pub core: ServerCore,
    /// Receive window of an authenticated client, unless there are too many.
    pub receive_window: u32,
    /// Whether clients that read repair get it, and may send it.
    pub repair: bool,
    pub admission: Arc<AdmissionControl>,
    pub peers: Arc<Peers>,
    /// Never goes back.
    pub stage: watch::Sender<Stage>,
    /// Each stream holds a clone until its answer is sent.
    pub busy: mpsc::WeakSender<()>,
    /// The IO thread ended although the server was not closed.
    pub broken: AtomicBool,
}

/// The stages of a server's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Serving,
    /// Finishes accepted requests and accepts no more.
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
