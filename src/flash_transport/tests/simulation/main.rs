//! The transport on simulated links, in virtual time.
//!
//! Both ends are quinn-proto with the settings that ship; the links delay, queue, lose and reorder by a seed.
//! Nothing sleeps and no clock is read, so that the milliseconds are the same on any machine.

mod arms;
mod bulk;
mod comparison;
mod datagram_size;
mod estimate;
mod host;
mod latency;
mod link;
mod network;
mod paths;
mod plane;
mod random;
mod repair;
mod repeatable;
mod report;
mod requests;
mod rows;
mod scenario;
mod sharing;
mod streams;
mod tls;
