//! A path of 10 ms in each direction that loses one datagram in 40, by count.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const ONE_WAY: Duration = Duration::from_millis(10);
const LOST: u64 = 40;
/// The handshake is left alone.
const FIRST_LOST: u64 = 60;
/// Between looks at what is due.
const TICK: Duration = Duration::from_millis(1);

pub struct LossyPath {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl LossyPath {
    pub fn to(server: SocketAddr) -> Self {
        Self::from_ip([127, 0, 0, 1], server)
    }

    /// Seen by the server at an address of its own, as behind a NAT.
    pub fn from_ip(outside: [u8; 4], server: SocketAddr) -> Self {
        let inside = Arc::new(socket([127, 0, 0, 1]));
        let outside = Arc::new(socket(outside));
        outside.connect(server).unwrap();
        let address = inside.local_addr().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let client = Arc::new(Mutex::new(None));

        let (of_client, to_server) = (client.clone(), outside.clone());
        let up = carry(inside.clone(), stopping.clone(), move |datagram, from| {
            *of_client.lock().unwrap() = Some(from);
            let _ = to_server.send(datagram);
        });
        let down = carry(outside, stopping.clone(), move |datagram, _| {
            let client = *client.lock().unwrap();
            if let Some(client) = client {
                let _ = inside.send_to(datagram, client);
            }
        });
        Self {
            address,
            stopping,
            threads: vec![up, down],
        }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for LossyPath {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn carry(
    socket: Arc<UdpSocket>,
    stopping: Arc<AtomicBool>,
    mut deliver: impl FnMut(&[u8], SocketAddr) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        let mut under_way: VecDeque<(Instant, Vec<u8>, SocketAddr)> = VecDeque::new();
        let mut number = 0;
        while !stopping.load(Ordering::SeqCst) {
            if let Ok((size, from)) = socket.recv_from(&mut buffer) {
                number += 1;
                if number < FIRST_LOST || number % LOST != 0 {
                    let datagram = buffer[..size].to_vec();
                    under_way.push_back((Instant::now() + ONE_WAY, datagram, from));
                }
            }
            let now = Instant::now();
            while under_way.front().is_some_and(|(due, ..)| *due <= now) {
                let (_, datagram, from) = under_way.pop_front().unwrap();
                deliver(&datagram, from);
            }
        }
    })
}

fn socket(ip: [u8; 4]) -> UdpSocket {
    let address = SocketAddr::from((ip, 0));
    let kind = socket2::Type::DGRAM;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None).unwrap();
    // A whole flight waits here while the thread does not run.
    let _ = socket.set_recv_buffer_size(4 << 20);
    socket.bind(&address.into()).unwrap();
    let socket: UdpSocket = socket.into();
    socket.set_read_timeout(Some(TICK)).unwrap();
    socket
}
