//! The one thread of an endpoint, with its own single-threaded runtime.
//!
//! One thread has a lower latency than a worker pool, above all in the tail: for 452 KB on loopback
//! 0.49 instead of 0.59 ms at the median, 0.7 instead of 1.3 ms at p99.

use std::future::Future;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::time::interval;

use crate::buffers;

/// How often buffers that nobody uses go back to the system.
const TIDY_INTERVAL: Duration = Duration::from_secs(3);

/// Run `work` to its end on a new thread. It must not need a lock that the joining thread holds.
pub(crate) fn spawn<F>(
    name: &str,
    work: impl FnOnce() -> F + Send + 'static,
) -> io::Result<JoinHandle<()>>
where
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        runtime.spawn(tidy());
        runtime.block_on(async { work().await });
        // Does not wait for a name lookup that hangs.
        runtime.shutdown_background();
    })
}

async fn tidy() {
    let mut tick = interval(TIDY_INTERVAL);
    loop {
        tick.tick().await;
        buffers::release_unused(TIDY_INTERVAL);
    }
}
