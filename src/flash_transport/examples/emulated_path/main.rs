//! A path between two TUN devices that delays, queues and loses packets by a seed, as the simulation's links do. Linux, root.
//!
//! `benchmarks/network` moves each device into a network namespace of its own, so that real TCP and real UDP meet the very
//! link that `tests/simulation` models, also on kernels without netem.
//!
//! usage: emulated_path DEVICE DEVICE SEED ONE_WAY_US BITS_PER_SECOND BACK QUEUE JITTER LOSS
//!   BITS_PER_SECOND  from the first device to the second; BACK: the other way
//!   QUEUE            bytes that may wait in front of each direction
//!   JITTER           none|in-order:US|overtaking:US
//!   LOSS             none|independent:RATE|bursts:RATE:PACKETS
//! It prints `ready` when both devices are there, and carries packets until it is ended.

#[cfg(target_os = "linux")]
#[path = "../../tests/simulation/link.rs"]
#[allow(dead_code, unused_imports)]
mod link;
#[cfg(target_os = "linux")]
#[path = "../../tests/simulation/random.rs"]
#[allow(dead_code)]
mod random;
#[cfg(target_os = "linux")]
mod tun;

#[cfg(target_os = "linux")]
fn main() {
    if let Err(message) = linux::run(std::env::args().skip(1).collect()) {
        eprintln!("emulated_path: {message}");
        std::process::exit(1);
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("emulated_path: TUN devices are Linux's");
    std::process::exit(1);
}

#[cfg(target_os = "linux")]
mod linux {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    use std::str::FromStr;
    use std::time::{Duration, Instant};

    use crate::link::{Jitter, Link, LinkSpec, Loss};
    use crate::random::Random;
    use crate::tun::{wait, Tun};

    /// What a link model takes for a packet's headers, IPv4's and UDP's.
    const HEADERS: usize = 28;
    const PACKET_LIMIT: usize = 1500;

    pub fn run(arguments: Vec<String>) -> Result<(), String> {
        let [first, second, seed, one_way, there, back, queue, jitter, loss] =
            <[String; 9]>::try_from(arguments).map_err(|got| {
                format!(
                    "takes 9 arguments, got {}; see the head of its source",
                    got.len()
                )
            })?;
        let spec = LinkSpec {
            one_way: Duration::from_micros(number(&one_way)?),
            bits_per_second: number(&there)?,
            queue_bytes: number(&queue)?,
            loss: parse_loss(&loss)?,
            jitter: parse_jitter(&jitter)?,
            payload_limit: PACKET_LIMIT - HEADERS,
        };
        let answers = LinkSpec {
            bits_per_second: number(&back)?,
            ..spec.clone()
        };
        let mut chance = Random::new(number(&seed)?);
        let open = |name: &str| Tun::open(name).map_err(|error| format!("device {name}: {error}"));
        let ends = [open(&first)?, open(&second)?];
        let mut links = [spec, answers].map(|spec| Link::new(spec, Random::new(chance.bits())));
        println!("ready");
        carry(&ends, &mut links).map_err(|error| error.to_string())
    }

    fn number<T: FromStr>(text: &str) -> Result<T, String> {
        text.parse().map_err(|_| format!("{text:?} is no number"))
    }

    fn parse_jitter(text: &str) -> Result<Jitter, String> {
        let of = |amount| number(amount).map(Duration::from_micros);
        match text.split_once(':') {
            None if text == "none" => Ok(Jitter::None),
            Some(("in-order", amount)) => Ok(Jitter::InOrder {
                amount: of(amount)?,
            }),
            Some(("overtaking", amount)) => Ok(Jitter::Reordering {
                amount: of(amount)?,
            }),
            _ => Err(format!("{text:?} is no jitter")),
        }
    }

    fn parse_loss(text: &str) -> Result<Loss, String> {
        let mut words = text.split(':');
        let kind = words.next().unwrap_or_default();
        let numbers = words.map(number).collect::<Result<Vec<f64>, _>>()?;
        match (kind, numbers.as_slice()) {
            ("none", []) => Ok(Loss::None),
            ("independent", [rate]) => Ok(Loss::Independent { probability: *rate }),
            ("bursts", [rate, packets]) => Ok(Loss::bursts(*rate, *packets)),
            _ => Err(format!("{text:?} is no loss")),
        }
    }

    /// Packets under way, the next to arrive first: when, in which order, to which end, what.
    type UnderWay = BinaryHeap<Reverse<(Instant, u64, usize, Vec<u8>)>>;

    fn carry(ends: &[Tun; 2], links: &mut [Link; 2]) -> std::io::Result<()> {
        let mut under_way = UnderWay::new();
        let mut offered = 0;
        let mut packet = [0; PACKET_LIMIT];
        loop {
            let next = under_way.peek().map(|Reverse((at, ..))| *at);
            wait(
                ends,
                next.map(|at| at.saturating_duration_since(Instant::now())),
            )?;
            for from in 0..2 {
                while let Some(size) = ends[from].receive(&mut packet)? {
                    let now = Instant::now();
                    if let Some(at) = links[from].offer(now, size.saturating_sub(HEADERS)) {
                        offered += 1;
                        let bytes = packet[..size].to_vec();
                        under_way.push(Reverse((at, offered, 1 - from, bytes)));
                    }
                }
            }
            let now = Instant::now();
            while under_way.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
                if let Some(Reverse((_, _, to, bytes))) = under_way.pop() {
                    ends[to].send(&bytes);
                }
            }
        }
    }
}
