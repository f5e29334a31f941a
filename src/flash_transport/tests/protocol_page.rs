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
