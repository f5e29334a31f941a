//! QUIC transport, msgpack-numpy codec and image work for robot policies.

pub mod buffers;
pub mod codec;
pub mod congestion;
pub mod image;
pub mod link;
#[cfg(unix)]
pub mod local;
#[cfg(feature = "python")]
mod python;
pub mod quic;
pub mod relay;
pub mod repair;
pub mod text;
pub mod trust;
#[cfg(unix)]
pub mod websocket;
