//! openpi's wire codec: msgpack with numpy arrays, bit for bit.
//!
//! Pure Rust and without any Python: a bounded [`Reader`], a [`Writer`], and what a map that stands for an
//! array looks like. The Python face builds objects straight from the reader's tokens.
