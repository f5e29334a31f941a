//! `docs/protocol.md` says what the code does.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use flash_transport::congestion::{TailProbes, DATAGRAM_BYTES, PROBE};
use flash_transport::link::counters::Counters;
use flash_transport::link::hello::MAX_FIELD;
use flash_transport::link::limits::ServerLimits;
use flash_transport::link::wire::{ErrorCode, Kind, ALPN};
use flash_transport::quic::settings::LinkSettings;
use flash_transport::quic::signal::Signal;
use flash_transport::relay::forwarding::RelayLimits;
use flash_transport::relay::message::{register, LIFETIME};
use flash_transport::relay::token::{Name, Role, Token, MAX_NAME, MAX_TOKEN, MIN_TOKEN};
use flash_transport::relay::DEFAULT_PORT;
use flash_transport::repair::{symbols, Repair, Shape, Symbol};

fn page() -> String {
    read("protocol.md")
}

fn read(name: &str) -> String {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
    std::fs::read_to_string(format!("{docs}/{name}")).unwrap()
}

/// The first column of the table whose head starts with `head`.
fn column(page: &str, head: &str) -> Vec<String> {
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with(&format!("| {head} |")))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let first = |row: &str| row.split('|').nth(1).unwrap().trim().replace('`', "");
    rows.map(first).collect()
}

#[test]
fn the_page_names_the_protocol() {
    let alpn = String::from_utf8(ALPN.to_vec()).unwrap();
    assert!(page().contains(&format!("ALPN protocol `{alpn}`")));
}

#[test]
fn the_page_lists_every_kind_and_nothing_else() {
    let kinds = Kind::ALL.map(|kind| format!("{:#04x}", kind.byte()));
    assert_eq!(column(&page(), "kind"), kinds);
    for kind in Kind::ALL {
        let row = format!("| `{:#04x}` | {} |", kind.byte(), kind.name());
        assert!(page().contains(&row), "{row}");
    }
}

#[test]
fn the_page_lists_every_error_code_and_nothing_else() {
    assert_eq!(column(&page(), "code"), ErrorCode::ALL.map(ErrorCode::name));
}

#[test]
fn the_page_lists_every_signal_and_nothing_else() {
    let signals = [
        Signal::Done,
        Signal::Cancelled,
        Signal::Refused,
        Signal::Unauthenticated,
        Signal::ShuttingDown,
        Signal::TooSlow,
        Signal::Unfinished,
    ];
    let codes = signals.map(|signal| format!("{:#04x}", signal as u8));
    assert_eq!(column(&page(), "application error code"), codes);
}

#[test]
fn the_page_describes_the_probes() {
    let page = page();
    let quick =
        TailProbes::new(Duration::from_millis(80)).take_while(|pause| !pause.only_if_silent);
    let most = quick.count();
    let probe: String = PROBE.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(page.contains(&format!(
        "sends the one byte `{probe}`: on a connection that loses packets at most {most} over three round trips"
    )));
    assert!(page.contains(&format!("`max_datagram_frame_size` of {DATAGRAM_BYTES}")));
    assert!(page.contains(&format!("keeps at most {DATAGRAM_BYTES} bytes")));
}

#[test]
fn the_page_has_the_servers_limits() {
    let limits = ServerLimits::default();
    let page = page();
    for row in [
        format!(
            "| one infer or reset | {} MiB (`max_message_bytes`) |",
            limits.message_bytes >> 20
        ),
        format!(
            "| streams of one connection at a time | {} |",
            limits.connection_requests
        ),
        format!("| connections | {} |", limits.connections),
        format!(
            "| connections of one IPv4 address or IPv6 /64 | {} |",
            limits.connections_of_address
        ),
        format!(
            "beyond {} MiB that each connection has of its own",
            limits.own_bytes >> 20
        ),
        format!(
            "| time to a good hello | {} s |",
            limits.hello_time.as_secs()
        ),
        format!(
            "| time for a request to arrive, first byte to last | {} s |",
            limits.request_time.as_secs()
        ),
        format!(
            "| time for an answer to be read | {} s |",
            limits.answer_time.as_secs()
        ),
    ] {
        assert!(page.contains(&row), "{row}");
    }
    assert!(page.contains(&format!("at most {MAX_FIELD} bytes")));
    let idle = LinkSettings::default().idle.as_secs();
    assert!(page.contains(&format!("gives a silent client up after {idle} s")));
    assert_eq!(limits.connection_bytes, 2 * limits.message_bytes);
    assert_eq!(limits.total_bytes, 8 * limits.message_bytes);
}

#[test]
fn the_operators_page_lists_every_counter_and_nothing_else() {
    let names: Vec<_> = Counters::default()
        .snapshot()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(column(&read("server.md"), "counter"), names);
}

/// What a fenced example of the page says, comments left out.
fn example(name: &str) -> Vec<u8> {
    let page = page();
    let begin = format!("```text {name}\n");
    let (_, rest) = page.split_once(&begin).unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let digits: String = example
        .lines()
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn the_pages_datagram_of_repair_is_what_we_send() {
    let message = bytes::Bytes::from(vec![Kind::Reset.byte(), 0x80]);
    let repair = Repair::new(Shape::new(2, 1, 1).unwrap(), &[message]).unwrap();
    let sent: Vec<_> = symbols(&repair, 8, 1_200).collect();
    assert_eq!(sent, [example("repair")]);
}

#[test]
fn the_pages_registration_at_a_relay_is_what_we_send() {
    let name = Name::new("lab1").unwrap();
    let token = Token::new(&"a".repeat(32)).unwrap();
    let local = Some("192.0.2.7:40000".parse().unwrap());
    let sent = register(Role::Client, [2; 8], None, &name, local, &token);
    assert_eq!(sent, example("relay-register"));
}

#[test]
fn the_page_has_the_relays_numbers() {
    let (page, limits) = (page(), RelayLimits::default());
    for part in [
        format!("UDP port {DEFAULT_PORT}"),
        format!("1 to {MAX_NAME} of"),
        format!("{MIN_TOKEN} to {MAX_TOKEN} visible"),
        format!("without a renewal it ends after {} s", LIFETIME.as_secs()),
        format!(
            "({} Mb/s each way, after a burst of {} MB)",
            limits.bytes_per_second * 8.0 / 1e6,
            limits.burst_bytes / 1e6
        ),
    ] {
        assert!(page.contains(&part), "{part}");
    }
}

/// The field of the page, by the page.
struct PagesField([u32; 16]);

impl PagesField {
    fn read() -> Self {
        let page = page();
        let (_, rest) = page.split_once("bits `b[i]`: `b` = ").unwrap();
        let (list, _) = rest.split_once(" (hexadecimal)").unwrap();
        let basis: Vec<u32> = list
            .split(", ")
            .map(|element| u32::from_str_radix(element, 16).unwrap())
            .collect();
        Self(basis.try_into().unwrap())
    }

    fn polynomial(&self, element: u32) -> u32 {
        let bits = (0..16).filter(|i| element >> i & 1 == 1);
        bits.fold(0, |sum, i| sum ^ self.0[i])
    }

    fn product(&self, a: u32, b: u32) -> u32 {
        let (a, b) = (self.polynomial(a), self.polynomial(b));
        let mut product = (0..16).fold(0u64, |sum, i| {
            sum ^ if b >> i & 1 == 1 {
                u64::from(a) << i
            } else {
                0
            }
        });
        for bit in (16..32).rev() {
            if product >> bit & 1 == 1 {
                product ^= 0x1002d << (bit - 16);
            }
        }
        (0..=0xffff)
            .find(|element| u64::from(self.polynomial(*element)) == product)
            .unwrap()
    }

    fn inverse(&self, a: u32) -> u32 {
        // a to the power of 2^16 - 2.
        let mut power = a;
        let mut inverse = 1;
        for _ in 0..15 {
            power = self.product(power, power);
            inverse = self.product(inverse, power);
        }
        inverse
    }
}

#[test]
fn repair_by_the_pages_formula_is_what_we_send() {
    let field = PagesField::read();
    let message: bytes::Bytes = (0..3 * 64).map(|i| (i * 37 + 5) as u8).collect();
    let repair = Repair::new(
        Shape::new(192, 1, 3).unwrap(),
        std::slice::from_ref(&message),
    );
    let datagram = symbols(&repair.unwrap(), 0, 1_200).next().unwrap();
    let sent = Symbol::decode(&datagram).unwrap().pieces;
    let element = |bytes: &[u8], row: usize, i: usize| {
        u32::from(bytes[row * 64 + i]) | u32::from(bytes[row * 64 + i + 32]) << 8
    };
    const M: u32 = 4;
    let all = |factors: &mut dyn Iterator<Item = u32>| {
        factors.fold(1, |product, factor| field.product(product, factor))
    };
    for r in 0..3 {
        let factors: Vec<u32> = (0..3u32)
            .map(|j| {
                let above = all(&mut (0..M).map(|v| (M + j) ^ v));
                let below = all(&mut (1..M));
                let c = field.product(above, field.inverse(below));
                field.product(c, field.inverse(r ^ (M + j)))
            })
            .collect();
        for i in [0, 1, 31] {
            let expected = (0..3).fold(0, |sum, j| {
                sum ^ field.product(factors[j], element(&message, j, i))
            });
            assert_eq!(
                element(&sent, r as usize, i),
                expected,
                "row {r}, element {i}"
            );
        }
    }
}
