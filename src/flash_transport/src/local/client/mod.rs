//! A client's connection to a server on this computer.
//!
//! A thread that waits for an answer may carry its request itself ([`Exclusive`]): it need not wake
//! another thread, which is most of a request's cost. All other requests are carried by a task on
//! the client's IO thread ([`Connection::drive`]), which sleeps when idle.

mod connection;
mod error;
mod exclusive;
mod outbox;
mod reader;

pub(crate) use connection::Connection;
pub(crate) use error::ExchangeError;
pub(crate) use exclusive::Exclusive;
