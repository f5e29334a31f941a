//! The ways of a socket whose connections may go through a relay. [`End`] decides; here datagrams
//! are sent and received, and time passes.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{ready, Context, Poll};
use std::time::{Duration, Instant};

use quinn::udp::{RecvMeta, Transmit};
use tokio::sync::Notify;

use super::batch::{unwrap, wrap, Later};
use crate::quic::udp::Udp;
use crate::relay::access::RelayAccess;
use crate::relay::end::{stands_for_a_peer, why_not, End, Incoming};
use crate::relay::message::EndId;
use crate::relay::registration::{Applicant, Standing};
use crate::relay::token::Role;

/// The name of a silent relay is looked up again so often.
const LOOK_UP: Duration = Duration::from_secs(10);
/// How often to look whether the relay has fallen silent.
const GLANCE: Duration = Duration::from_secs(2);
/// Datagrams that wait for their turn; more than one batch from the kernel holds.
const MOST_LATER: usize = 256;

pub(crate) struct Ways {
    udp: Arc<Udp>,
    role: Role,
    state: Mutex<State>,
    /// The time to [`End::poll`] may have changed.
    due: Arc<Notify>,
    /// The relay has said something.
    told: Notify,
}

struct State {
    end: End,
    later: VecDeque<Later>,
    wrapped: Vec<u8>,
}

impl Ways {
    /// Of `udp`, for one connection of a client or all of a server's, which the relay knows as
    /// `end`. Needs a runtime, on which it keeps itself registered as long as it lives.
    pub fn new(udp: Arc<Udp>, role: Role, end: EndId, access: &RelayAccess) -> Arc<Self> {
        let applicant = Applicant {
            role,
            name: access.name.clone(),
            token: access.token.clone(),
            end,
            local: None,
        };
        let ways = Arc::new(Self {
            udp,
            role,
            state: Mutex::new(State {
                end: End::new(applicant, Instant::now()),
                later: VecDeque::new(),
                wrapped: Vec::new(),
            }),
            due: Arc::new(Notify::new()),
            told: Notify::new(),
        });
        tokio::spawn(keep(Arc::downgrade(&ways), ways.due.clone()));
        ways
    }

    /// The relay is at this address.
    pub fn set_relay(&self, relay: SocketAddr) {
        let port = self.udp.io.local_addr().map_or(0, |local| local.port());
        let local = address_towards(relay).map(|ip| SocketAddr::new(ip, port));
        self.lock().end.set_relay(relay, local);
        self.due.notify_one();
    }

    /// Tell how the end stands with the relay, and each change. Never returns.
    pub async fn watch(&self, mut tell: impl FnMut(Standing)) {
        let started = Instant::now();
        let mut known = None;
        loop {
            let told = self.told.notified();
            let standing = self.standing();
            // At the start nothing is known until its name is looked up.
            let is_known = standing != Standing::Silent || started.elapsed() >= LOOK_UP;
            if is_known && known != Some(standing) {
                known = Some(standing);
                tell(standing);
            }
            // A relay that falls silent does not tell.
            let _ = tokio::time::timeout(GLANCE, told).await;
        }
    }

    /// Look up the name of the relay, and again when it is silent. Never returns.
    pub async fn find_relay(&self, access: &RelayAccess) {
        let named = (access.host.as_str(), access.port);
        loop {
            if self.standing() == Standing::Silent {
                // Until it works, the server's own port goes on without the relay.
                if let Ok(addresses) = tokio::net::lookup_host(named).await {
                    let mut usable = addresses.filter(|address| self.udp.reaches(*address));
                    usable
                        .next()
                        .into_iter()
                        .for_each(|address| self.set_relay(address));
                }
            }
            tokio::time::sleep(LOOK_UP).await;
        }
    }

    pub fn standing(&self) -> Standing {
        self.lock().end.standing(Instant::now())
    }

    /// Wait until the relay has told of the server; the address that stands for it. Or why not.
    pub async fn server(&self) -> Result<SocketAddr, String> {
        loop {
            let told = self.told.notified();
            if let Some(server) = self.lock().end.server() {
                return Ok(server);
            }
            let standing = self.standing();
            if matches!(standing, Standing::Refused(_)) {
                return Err(why_not(standing));
            }
            told.await;
        }
    }

    /// Whether datagrams for `address` are ours to send.
    pub fn lead_to(address: SocketAddr) -> bool {
        stands_for_a_peer(address)
    }

    pub fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut state = self.lock();
        let State { end, wrapped, .. } = &mut *state;
        let Some((to, header)) = end.way_to(Instant::now(), transmit.destination) else {
            return Ok(());
        };
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        wrap(wrapped, &header, transmit.contents, segment);
        self.udp.try_send(&Transmit {
            destination: self.udp.form_of(to),
            ecn: transmit.ecn,
            contents: wrapped,
            segment_size: transmit.segment_size.map(|segment| segment + header.len()),
            // The way may have changed to another interface.
            src_ip: None,
        })
    }

    /// Receive datagrams of QUIC; `failed` sees each pending error of the socket first.
    pub fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
        failed: impl FnMut(&io::Error),
    ) -> Poll<io::Result<usize>> {
        let waited = self.take_later(buffers, meta);
        if waited > 0 {
            return Poll::Ready(Ok(waited));
        }
        let count = ready!(self.udp.poll_recv(context, buffers, meta, failed))?;
        for (buffer, meta) in buffers.iter_mut().zip(&mut meta[..count]) {
            self.read(buffer, meta);
        }
        Poll::Ready(Ok(count))
    }

    fn read(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let mut datagrams = buffer[..meta.len].chunks(meta.stride.max(1));
        // A server's ordinary clients need no lock.
        if self.role == Role::Server && datagrams.all(|datagram| End::is_foreign(datagram.first()))
        {
            return;
        }
        let (now, from) = (Instant::now(), meta.addr);
        let mut was_told = false;
        let mut state = self.lock();
        let State { end, later, .. } = &mut *state;
        unwrap(buffer, meta, later, |datagram| {
            let incoming = end.handle(now, from, datagram);
            was_told |= incoming == Incoming::Read;
            match incoming {
                Incoming::Quic(peer) => Incoming::Quic(self.udp.form_of(peer)),
                // A client has no other peers than its server.
                Incoming::Foreign if self.role == Role::Client => Incoming::Read,
                other => other,
            }
        });
        later.truncate(MOST_LATER);
        drop(state);
        if was_told {
            self.send_due();
            self.due.notify_one();
            self.told.notify_waiters();
        }
    }

    fn take_later(&self, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> usize {
        let mut state = self.lock();
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some((from, datagram)) = state.later.pop_front() else {
                break;
            };
            let length = datagram.len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram[..length]);
            *meta = RecvMeta {
                addr: from,
                len: length,
                stride: length,
                ..RecvMeta::default()
            };
            count += 1;
        }
        count
    }

    /// Send what is due besides QUIC. What does not leave is lost, and sent again by and by.
    fn send_due(&self) {
        let sends = self.lock().end.poll(Instant::now());
        for (to, datagram) in sends {
            let _ = self.udp.try_send(&Transmit {
                destination: self.udp.form_of(to),
                ecn: None,
                contents: &datagram,
                segment_size: None,
                src_ip: None,
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn keep(ways: Weak<Ways>, due: Arc<Notify>) {
    loop {
        let next = match ways.upgrade() {
            Some(ways) => {
                ways.send_due();
                let next = ways.lock().end.due();
                next
            }
            None => return,
        };
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            () = due.notified() => {}
        }
    }
}

/// This computer's address on the way to `relay`.
fn address_towards(relay: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match relay {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    // Sends nothing.
    let probe = UdpSocket::bind((any, 0)).ok()?;
    probe.connect(relay).ok()?;
    Some(probe.local_addr().ok()?.ip())
}
