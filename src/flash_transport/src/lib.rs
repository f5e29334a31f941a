//! QUIC transport, msgpack-numpy codec and image work for robot policies.

pub mod buffers;
pub mod codec;
pub mod congestion;
pub mod image;
#[cfg(target_os = "linux")]
pub mod large_blocks;
pub mod link;
#[cfg(unix)]
pub mod local;
#[cfg(feature = "python")]
mod python;
pub mod quic;
pub mod relay;
pub mod repair;
pub mod text;
pub mod trust;
#[cfg(unix)]
pub mod websocket;

// Tests count what is allocated with allocators of their own.
#[cfg(all(target_os = "linux", feature = "python"))]
#[global_allocator]
static ALLOCATOR: large_blocks::LargeBlocks = large_blocks::LargeBlocks;
