//! The same messages over a unix socket, for a policy on the robot's own computer; `docs/protocol.md` says how.
//!
//! A stream socket has no streams of its own, so each message is in a frame with its length and the
//! id of its request ([`frame`]). A message costs one copy into the kernel, straight from its
//! parts, and one out of it, into the buffer on which the arrays are views.

pub(crate) mod client;
pub mod frame;
pub mod path;
pub mod server;
mod socket;
