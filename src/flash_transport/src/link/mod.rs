//! What every link has in common, whatever it runs over: the messages of `docs/protocol.md`, the limits of a server, its
//! waiting requests, its keys and its counters. [`crate::quic`] and [`crate::local`] build on it; it knows neither.

pub mod counters;
pub mod hello;
pub mod keys;
pub mod limits;
pub mod queue;
pub mod request;
pub mod table;
pub mod wire;
