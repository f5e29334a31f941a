//! WebSocket (RFC 6455) in openpi's protocol: the server's end. Clients are Python's `websockets`.
//!
//! The frames and the handshake are read here, not by a crate: those take memory by the length that
//! a client announces, and keep buffers of their own, which no budget counts.

pub mod frame;
pub mod handshake;
pub mod server;
