//! Application error codes in RESET_STREAM, STOP_SENDING and CONNECTION_CLOSE (RFC 9000, section
//! 20.2).

/// Why an end closes a stream or the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Signal {
    /// The connection is no longer needed.
    Done = 0x00,
    /// The client no longer wants the answer.
    Cancelled = 0x01,
    /// The server reads no more of this request; its answer says why.
    Refused = 0x02,
    /// No good hello came.
    Unauthenticated = 0x03,
    /// The server stops, and has answered all that it accepted on this connection.
    ShuttingDown = 0x04,
    /// The peer took too long to send or to read.
    TooSlow = 0x05,
    /// The server stops in the middle of requests of this connection.
    Unfinished = 0x06,
}

impl From<Signal> for quinn::VarInt {
    fn from(signal: Signal) -> Self {
        quinn::VarInt::from_u32(u32::from(signal as u8))
    }
}
