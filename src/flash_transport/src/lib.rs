//! QUIC transport, msgpack-numpy codec and image work for robot policies.

#[cfg(feature = "python")]
mod python;
