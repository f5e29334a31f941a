//! QUIC client and server of `docs/protocol.md`.
//!
//! Layers: the pure core ([`wire`], [`hello`], [`limits`], [`table`], [`backoff`]: no sockets, no clock), the endpoint
//! settings ([`settings`], `tls`, `socket`), then [`client`] and [`server`], which let tokio carry the core.

pub mod backoff;
pub mod client;
pub mod datagram_size;
mod gather;
pub mod hello;
mod io_thread;
pub mod limits;
pub mod server;
pub mod settings;
mod socket;
pub mod table;
mod tls;
mod udp;
pub mod wire;
