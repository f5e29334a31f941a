//! The same messages over a unix socket, for a policy on the robot's own computer; `docs/protocol.md` says how.
//!
//! A stream socket has no streams of its own, so each message travels in a frame with a length and the number of its
//! request ([`frame`]). What one message costs is a copy into the kernel, straight from where its parts lie, and one out
//! of it, into the buffer that the arrays are views on.

pub(crate) mod client;
pub mod frame;
pub mod path;
pub mod server;
mod socket;
