//! The socket of a relay. [`Relay`] decides; here datagrams come in and go out in batches.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quinn::udp::{RecvMeta, Transmit};
use tokio::sync::Notify;

use crate::link::counters::Counter;
use crate::link::io_thread;
use crate::quic::datagram_size;
use crate::quic::settings::{self, LinkSettings, SocketBuffers};
use crate::quic::udp::{LargestDatagrams, Udp};
use crate::relay::forwarding::{Relay, RelayEvent, RelayLimits, Step};
use crate::relay::token::{Name, Token};

/// Most batches taken at a time.
const BATCHES: usize = 16;
/// Bytes of a batch: what the kernel delivers in one piece.
const BATCH: usize = 1 << 16;
const TICK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct RelayConfig {
    pub address: SocketAddr,
    pub tokens: HashMap<Name, Token>,
    pub limits: RelayLimits,
}

/// A relay that serves until it is closed.
#[derive(Debug)]
pub struct RelayService {
    address: SocketAddr,
    buffers: SocketBuffers,
    forwarded: Arc<Counter>,
    stop: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl RelayService {
    /// Bind and serve. `tell` hears what happens, on the relay's thread.
    ///
    /// # Errors
    ///
    /// The address is in use, or the system has no random numbers.
    pub fn bind(
        config: RelayConfig,
        tell: impl FnMut(RelayEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let (socket, buffers) = settings::bind(config.address, &LinkSettings::default())?;
        let address = socket.local_addr()?;
        let relay = Relay::new(config.tokens, config.limits, Instant::now())
            .map_err(|_| io::Error::other("the system has no random numbers"))?;
        let forwarded = Arc::new(Counter::default());
        let counted = forwarded.clone();
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let thread = io_thread::spawn("flash-relay", move || async move {
            let largest = LargestDatagrams {
                sent: datagram_size::ORDINARY,
                received: datagram_size::ORDINARY,
            };
            match Udp::new(socket, largest) {
                Ok(udp) => {
                    let _ = started.send(Ok(()));
                    tokio::select! {
                        () = serve(&udp, relay, &counted, tell) => {}
                        () = stopped.notified() => {}
                    }
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        })?;
        start
            .recv()
            .map_err(|_| io::Error::other("the IO thread ended at its start"))??;
        Ok(Self {
            address,
            buffers,
            forwarded,
            stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Where it listens; the port is never 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn socket_buffers(&self) -> SocketBuffers {
        self.buffers
    }

    /// Datagrams that it has forwarded.
    pub fn forwarded(&self) -> u64 {
        self.forwarded.value()
    }

    /// Stop, and wait until that is done.
    pub fn close(&self) {
        self.stop.notify_one();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for RelayService {
    fn drop(&mut self) {
        self.close();
    }
}

async fn serve(udp: &Udp, mut relay: Relay, forwarded: &Counter, mut tell: impl FnMut(RelayEvent)) {
    let mut storage = vec![0; BATCHES * BATCH];
    let mut meta = [RecvMeta::default(); BATCHES];
    let mut expired = Instant::now();
    loop {
        let received = tokio::time::timeout(TICK, receive(udp, &mut storage, &mut meta)).await;
        let now = Instant::now();
        if let Ok(Ok(count)) = received {
            for (batch, meta) in storage.chunks(BATCH).zip(&meta[..count]) {
                forwarded.add(pass_on(udp, &mut relay, now, batch, meta));
            }
        }
        if now.saturating_duration_since(expired) >= TICK {
            expired = now;
            relay.expire(now);
        }
        relay.take_events().into_iter().for_each(&mut tell);
    }
}

async fn receive(
    udp: &Udp,
    storage: &mut [u8],
    meta: &mut [RecvMeta; BATCHES],
) -> io::Result<usize> {
    poll_fn(|context| {
        let mut buffers = storage.chunks_mut(BATCH).map(IoSliceMut::new);
        let mut buffers: [IoSliceMut<'_>; BATCHES] =
            std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        udp.poll_recv(context, &mut buffers, meta, |_| {})
    })
    .await
}

/// Forward a batch of datagrams of one sender: those that go the same way as one batch again.
/// Returns how many were forwarded.
fn pass_on(udp: &Udp, relay: &mut Relay, now: Instant, batch: &[u8], meta: &RecvMeta) -> u64 {
    let mut forwarded = 0;
    let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
    let stride = meta.stride.max(1);
    let most = udp.state.max_gso_segments() * stride;
    let mut run: Option<(SocketAddr, std::ops::Range<usize>)> = None;
    let send = |run: Option<(SocketAddr, std::ops::Range<usize>)>| {
        if let Some((to, range)) = run {
            let transmit = Transmit {
                destination: udp.form_of(to),
                ecn: meta.ecn,
                segment_size: (range.len() > stride).then_some(stride),
                contents: &batch[range],
                src_ip: None,
            };
            // What does not leave is lost, as anywhere on the way.
            let _ = udp.try_send(&transmit);
        }
    };
    for start in (0..meta.len).step_by(stride) {
        let range = start..meta.len.min(start + stride);
        let Step::Forward(to) = relay.handle(now, from, &batch[range.clone()]) else {
            continue;
        };
        forwarded += 1;
        run = match run.take() {
            Some((same, so_far))
                if same == to && so_far.end == start && so_far.len() + stride <= most =>
            {
                Some((to, so_far.start..range.end))
            }
            other => {
                send(other);
                Some((to, range))
            }
        };
    }
    send(run);
    for (to, answer) in relay.take_answers() {
        let transmit = Transmit {
            destination: udp.form_of(to),
            ecn: None,
            contents: &answer,
            segment_size: None,
            src_ip: None,
        };
        let _ = udp.try_send(&transmit);
    }
    forwarded
}
