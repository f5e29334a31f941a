//! A relay for servers that cannot be reached, behind a NAT or in a cloud without UDP ports.
//!
//! Server and client both register at the relay, by a name and a token, and it forwards the
//! datagrams of their QUIC connections, which it cannot read. Meanwhile they try to reach each
//! other directly, and do without the relay for as long as that works. QUIC sees one address for
//! the peer all the time. `docs/protocol.md` shows the datagrams.
//!
//! Layers: the datagrams ([`message`]) and tokens ([`token`], [`token_file`]); the relay's decisions
//! ([`forwarding`]), and those of an end ([`registration`], [`path`], [`end`]), all pure. The sockets
//! that carry them out are those of `quic::relay`.

pub mod access;
mod bucket;
pub mod end;
pub mod forwarding;
pub mod message;
pub mod path;
pub mod registration;
pub mod token;
pub mod token_file;

/// UDP port of a relay, unless configured otherwise.
pub const DEFAULT_PORT: u16 = 5557;
