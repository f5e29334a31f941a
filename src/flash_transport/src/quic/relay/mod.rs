//! The sockets of relayed connections, and that of the relay itself. What they do is decided in
//! [`crate::relay`].

mod batch;
pub(crate) mod client_socket;
pub mod service;
pub(crate) mod ways;
