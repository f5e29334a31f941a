//! QUIC client and server of `docs/protocol.md`.
//!
//! Layers: the messages and tables of [`crate::link`], the endpoint settings ([`settings`], `tls`,
//! `socket`), then [`client`] and [`server`], which run on tokio.

pub mod backoff;
pub mod client;
pub mod datagram_size;
mod gather;
pub mod relay;
mod repair;
pub mod server;
pub mod settings;
pub mod signal;
mod socket;
mod tls;
mod udp;
