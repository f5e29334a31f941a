//! Why bytes are no valid message, or a value cannot be encoded.

/// `at` is always a byte offset from the start of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("message is cut off: a value at byte {at} needs {needed} bytes, {left} are left")]
    Truncated { at: usize, needed: u64, left: usize },

    #[error("message has {length} {what}, at most {limit} are allowed")]
    LengthOverLimit {
        what: &'static str,
        length: u64,
        limit: u64,
    },

    #[error("message nests more than {limit} levels deep")]
    NestingOverLimit { limit: usize },

    #[error("text at byte {at} is not valid UTF-8")]
    InvalidUtf8 { at: usize },

    #[error("msgpack extension type {kind} at byte {at} is not supported")]
    UnsupportedExtension { at: usize, kind: i8 },

    #[error("byte {at} is 0xc1, which starts no msgpack value")]
    ReservedByte { at: usize },

    #[error("map key at byte {at} is {got}, expected text or bytes")]
    NonStringKey { at: usize, got: &'static str },

    #[error(
        "array of dtype {dtype} and shape {shape:?} has {got} bytes of data, expected {expected}"
    )]
    ShapeMismatch {
        dtype: String,
        shape: Vec<usize>,
        expected: u64,
        got: usize,
    },

    #[error("dtype {dtype:?} is not supported, expected a numpy dtype string of kind b, i, u, f, U, S, M or m")]
    UnknownDtype { dtype: String },

    #[error("array at byte {at} is malformed: {reason}")]
    MalformedArray { at: usize, reason: &'static str },

    #[error("{count} bytes follow the end of the message at byte {at}")]
    TrailingBytes { at: usize, count: usize },
}
