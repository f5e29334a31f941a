//! A client's connection to a server on this computer.
//!
//! It is driven from two sides. Whoever waits for an answer may carry their request themselves ([`Exclusive`]): no other
//! thread is woken, which is what a request costs most. Everybody else's requests are carried by a task on the client's
//! IO thread ([`Connection::drive`]), which sleeps while there is nothing to do.

mod connection;
mod error;
mod exclusive;
mod outbox;
mod reader;

pub(crate) use connection::Connection;
pub(crate) use error::ExchangeError;
pub(crate) use exclusive::Exclusive;
