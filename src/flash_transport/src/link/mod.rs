//! What all transports share: the messages of `docs/protocol.md`, server addresses, limits, API
//! keys, and the queue of requests. [`crate::quic`], [`crate::local`] and [`crate::websocket`] build
//! on it; it depends on none of them.

pub mod accepted;
pub mod address;
pub(crate) mod admission;
pub mod agreement;
pub mod counters;
pub mod events;
pub mod first_actions;
pub mod first_receiver;
pub mod hello;
pub(crate) mod io_thread;
pub mod keys;
pub mod limits;
pub mod queue;
pub mod refused;
pub mod request;
pub mod server_core;
pub mod table;
pub mod wire;
