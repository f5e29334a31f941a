//! A UDP relay between a client and its server, as a NAT is one: it can record, hold back, and change its own address.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Datagrams of a first flight with a small hello: handshake and early data share one.
const FIRST_FLIGHT: usize = 1;

pub struct Relay {
    inner: Arc<Inner>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

struct Inner {
    server: SocketAddr,
    inside: UdpSocket,
    /// Replaced when the address changes; the old one is kept open, so that its port stays taken.
    outside: Mutex<Vec<Arc<UdpSocket>>>,
    client: Mutex<Option<SocketAddr>>,
    is_cut: AtomicBool,
    recording: AtomicBool,
    recorded: Mutex<Vec<Vec<u8>>>,
    /// Datagrams of the client that still pass.
    passing: AtomicUsize,
    held: Mutex<Vec<Vec<u8>>>,
    stopping: AtomicBool,
}

impl Relay {
    pub fn to(server: SocketAddr) -> Self {
        let inner = Arc::new(Inner {
            server,
            inside: socket(),
            outside: Mutex::new(vec![Arc::new(socket())]),
            client: Mutex::new(None),
            is_cut: AtomicBool::new(false),
            recording: AtomicBool::new(false),
            recorded: Mutex::default(),
            passing: AtomicUsize::new(usize::MAX),
            held: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let address = inner.inside.local_addr().unwrap();
        let (up, down) = (inner.clone(), inner.clone());
        let threads = vec![
            std::thread::spawn(move || up.carry_up()),
            std::thread::spawn(move || down.carry_down()),
        ];
        Self {
            inner,
            address,
            threads,
        }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the server hears the client from another port. What it sends to the old one is lost.
    pub fn change_address(&self) {
        self.inner.outside.lock().unwrap().push(Arc::new(socket()));
    }

    /// Whether nothing passes.
    pub fn cut(&self, is_cut: bool) {
        self.inner.is_cut.store(is_cut, Ordering::SeqCst);
    }

    /// Keep the client's datagrams from now on.
    pub fn record(&self) {
        self.inner.recording.store(true, Ordering::SeqCst);
    }

    pub fn recorded(&self) -> Vec<Vec<u8>> {
        self.inner.recorded.lock().unwrap().clone()
    }

    /// Hold back all of the client's datagrams behind its next first flight.
    pub fn hold_after_first_flight(&self) {
        self.inner.passing.store(FIRST_FLIGHT, Ordering::SeqCst);
    }

    pub fn let_all_pass(&self) {
        self.inner.passing.store(usize::MAX, Ordering::SeqCst);
        for datagram in self.inner.held.lock().unwrap().drain(..) {
            self.inner.send_up(&datagram);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.inner.stopping.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Inner {
    fn carry_up(&self) {
        let mut buffer = [0; 65_536];
        while !self.stopping.load(Ordering::SeqCst) {
            let Ok((size, from)) = self.inside.recv_from(&mut buffer) else {
                continue;
            };
            if self.is_cut.load(Ordering::SeqCst) {
                continue;
            }
            let datagram = &buffer[..size];
            *self.client.lock().unwrap() = Some(from);
            if self.recording.load(Ordering::SeqCst) {
                self.recorded.lock().unwrap().push(datagram.to_vec());
            }
            let mut held = self.held.lock().unwrap();
            let passing = self.passing.load(Ordering::SeqCst);
            match passing {
                0 => held.push(datagram.to_vec()),
                usize::MAX => self.send_up(datagram),
                _ => {
                    self.passing.store(passing - 1, Ordering::SeqCst);
                    self.send_up(datagram);
                }
            }
        }
    }

    fn carry_down(&self) {
        let mut buffer = [0; 65_536];
        while !self.stopping.load(Ordering::SeqCst) {
            let outside = self.outside();
            let Ok(size) = outside.recv(&mut buffer) else {
                continue;
            };
            let is_old = !Arc::ptr_eq(&outside, &self.outside());
            if is_old || self.is_cut.load(Ordering::SeqCst) {
                continue;
            }
            let client = *self.client.lock().unwrap();
            if let Some(client) = client {
                self.inside.send_to(&buffer[..size], client).unwrap();
            }
        }
    }

    fn send_up(&self, datagram: &[u8]) {
        self.outside().send_to(datagram, self.server).unwrap();
    }

    fn outside(&self) -> Arc<UdpSocket> {
        self.outside.lock().unwrap().last().unwrap().clone()
    }
}

/// Looks up now and then, to see that it is to stop.
fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    socket
}
