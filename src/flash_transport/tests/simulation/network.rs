//! Hosts, the links between them, and the clock: it jumps to the next thing that happens.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::{ClientConfig, ServerConfig};

use crate::host::{App, Host};
use crate::link::{Link, LinkSpec};
use crate::random::Random;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostId(usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkId(usize);

pub struct Network {
    start: Instant,
    now: Instant,
    random: Random,
    hosts: Vec<Placed>,
    links: Vec<Link>,
    under_way: BinaryHeap<Reverse<Arrival>>,
    offered: u64,
}

impl Network {
    pub fn new(seed: u64) -> Self {
        // Only differences matter; there is no other way to make an `Instant`.
        let start = Instant::now();
        Self {
            start,
            now: start,
            random: Random::new(seed),
            hosts: Vec::new(),
            links: Vec::new(),
            under_way: BinaryHeap::new(),
            offered: 0,
        }
    }

    pub fn add_link(&mut self, spec: LinkSpec) -> LinkId {
        let random = Random::new(self.random.bits());
        self.links.push(Link::new(spec, random));
        LinkId(self.links.len() - 1)
    }

    /// Add a host whose datagrams all pass the links of `route`.
    pub fn add_host(
        &mut self,
        route: &[LinkId],
        server: Option<ServerConfig>,
        app: Box<dyn App>,
    ) -> HostId {
        let index = self.hosts.len();
        let last = u8::try_from(index + 1).expect("few hosts");
        let address = SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), 5555));
        self.hosts.push(Placed {
            host: Host::new(address, server, app, &mut self.random),
            route: route.to_vec(),
        });
        HostId(index)
    }

    pub fn connect(&mut self, client: HostId, config: ClientConfig, server: HostId) {
        let address = self.hosts[server.0].host.address;
        self.hosts[client.0].host.connect(self.now, config, address);
        self.drive(client.0);
    }

    pub fn link(&self, link: LinkId) -> &Link {
        &self.links[link.0]
    }

    /// Replace what a link does from now on; what is under way arrives as it was sent.
    pub fn change_link(&mut self, link: LinkId, spec: LinkSpec) {
        let random = Random::new(self.random.bits());
        self.links[link.0] = Link::new(spec, random);
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub fn since_start(&self, at: Instant) -> Duration {
        at - self.start
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.next_event().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Run until `done` says so, at most `steps` steps.
    pub fn run_until(&mut self, steps: u64, done: impl Fn() -> bool) {
        for _ in 0..steps {
            if done() {
                return;
            }
            assert!(
                self.next_event().is_some(),
                "nothing will ever happen again"
            );
            self.step();
        }
        panic!("not done after {steps} steps and {:?}", self.elapsed());
    }

    fn next_event(&mut self) -> Option<Instant> {
        let arrival = self.under_way.peek().map(|Reverse(next)| next.at);
        let wakeups = self
            .hosts
            .iter_mut()
            .filter_map(|placed| placed.host.next_wakeup());
        wakeups.chain(arrival).min()
    }

    /// Go to the next moment at which something happens, and let all of it happen.
    fn step(&mut self) {
        let Some(at) = self.next_event() else { return };
        self.now = self.now.max(at);
        let now = self.now;
        let mut woken: Vec<usize> = (0..self.hosts.len())
            .filter(|index| {
                self.hosts[*index]
                    .host
                    .next_wakeup()
                    .is_some_and(|at| at <= now)
            })
            .collect();
        while self
            .under_way
            .peek()
            .is_some_and(|Reverse(next)| next.at <= now)
        {
            let Some(Reverse(arrival)) = self.under_way.pop() else {
                break;
            };
            let packet = arrival.packet;
            if packet.passed < self.hosts[packet.from].route.len() {
                self.forward(packet);
                continue;
            }
            let from = self.hosts[packet.from].host.address;
            self.hosts[packet.to]
                .host
                .receive(now, from, packet.datagram);
            if !woken.contains(&packet.to) {
                woken.push(packet.to);
            }
        }
        for index in woken {
            self.drive(index);
        }
    }

    fn drive(&mut self, from: usize) {
        self.hosts[from].host.drive(self.now);
        for (address, datagram) in self.hosts[from].host.take_outgoing() {
            let to = self
                .hosts
                .iter()
                .position(|other| other.host.address == address)
                .expect("a host of this network");
            self.forward(Packet {
                from,
                to,
                passed: 0,
                datagram,
            });
        }
    }

    /// Offer a packet to the next link of its route.
    fn forward(&mut self, mut packet: Packet) {
        let link = self.hosts[packet.from].route[packet.passed];
        packet.passed += 1;
        if let Some(at) = self.links[link.0].offer(self.now, packet.datagram.len()) {
            self.offered += 1;
            self.under_way.push(Reverse(Arrival {
                at,
                number: self.offered,
                packet,
            }));
        }
    }
}

struct Placed {
    host: Host,
    /// The links that all its datagrams pass.
    route: Vec<LinkId>,
}

struct Packet {
    from: usize,
    to: usize,
    /// Links of the route behind it.
    passed: usize,
    datagram: BytesMut,
}

/// The end of one link of a packet's route.
struct Arrival {
    at: Instant,
    /// Packets that arrive at the same moment keep their order.
    number: u64,
    packet: Packet,
}

impl Arrival {
    fn key(&self) -> (Instant, u64) {
        (self.at, self.number)
    }
}

impl PartialEq for Arrival {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Arrival {}

impl PartialOrd for Arrival {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Arrival {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}
