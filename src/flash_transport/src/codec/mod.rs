//! openpi's wire codec, bit for bit: msgpack with numpy arrays (`openpi_client/msgpack_numpy.py` of
//! openpi).
//!
//! Pure Rust without Python. A bounded [`Reader`] reads a message token by token, a [`Writer`]
//! writes one. [`decode`] walks a message once and passes what it reads to a [`Build`], which makes
//! Python objects (in `python`) or [`Value`] trees (here).
//!
//! An array is a map of four entries with `bytes` keys, a numpy scalar a map of three:
//!
//! ```text
//! {b"__ndarray__": true, b"data": bin, b"dtype": "<f4", b"shape": [3]}
//! {b"__npgeneric__": true, b"data": 1.5, b"dtype": "<f4"}
//! ```

mod array;
mod build;
mod dtype;
mod error;
mod reader;
#[cfg(test)]
mod tests;
mod value;
mod writer;

// The public interface is:
pub use array::{
    ArrayView, Tagged, DATA_KEY, DTYPE_KEY, MAX_DIMS, NDARRAY_KEY, NPGENERIC_KEY, SHAPE_KEY,
};
pub use build::{decode, Build};
pub use dtype::{Dtype, Kind};
pub use error::CodecError;
pub use reader::{Key, Leaf, Limits, Reader, Token};
pub use value::{ArrayValue, Value, ValueKey};
pub use writer::Writer;
