//! What the IO thread, its tasks and the policy's threads share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::pings::Pings;
use crate::link::admission::AdmissionControl;
use crate::link::server_core::ServerCore;

/// How long a closing connection may take for its last frames.
pub(super) const FLUSH_TIME: Duration = Duration::from_secs(1);

/// What the policy's side says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Why no request would be accepted now.
    pub not_ready: Option<String>,
    /// The problem that the health page reports.
    pub unhealthy: Option<String>,
}

/// Asks for it; may block for moments.
pub type AskReadiness = Arc<dyn Fn() -> Readiness + Send + Sync>;

pub(super) struct Shared {
    pub core: ServerCore,
    pub admission: Arc<AdmissionControl>,
    pub readiness: AskReadiness,
    /// Whether openpi's clients get the server's traceback.
    pub expose_tracebacks: bool,
    /// The unix socket of what answers the session API.
    pub sessions: Option<PathBuf>,
    /// For clients that begin with TLS.
    pub tls: Option<TlsAcceptor>,
    pub ping_interval: Duration,
    pub longest_silence: Duration,
    /// Of each client.
    pub pings: Mutex<HashMap<u64, Arc<Pings>>>,
    /// Clients that wait for the metadata.
    pub waiting: AtomicUsize,
    /// Never goes back.
    pub closing: watch::Sender<bool>,
    /// The IO thread ended although the server was not closed.
    pub broken: AtomicBool,
}
