//! What every link has in common, whatever it runs over: the messages of `docs/protocol.md`, where a server is, what it
//! limits, whom it lets in, and its waiting requests. [`crate::quic`] and [`crate::local`] build on it; it knows neither.

pub mod accepted;
pub mod address;
pub mod counters;
pub mod events;
pub mod hello;
pub mod keys;
pub mod limits;
pub mod queue;
pub mod refused;
pub mod request;
pub mod server_core;
pub mod table;
pub mod wire;
