//! Collects the data of a stream in one buffer.

use std::future::Future;
use std::pin::pin;

use bytes::Bytes;
use quinn::{ReadError, RecvStream};

use crate::buffers::Buffer;
use crate::repair::Scattered;

/// Most packets taken from the connection at a time. A wake-up rarely brings more.
const CHUNKS: usize = 32;

#[derive(Debug)]
pub(crate) enum GatherError<E> {
    Read(ReadError),
    /// `admit` or `look` refused these bytes.
    Refused(E),
    Scattered(Scattered),
}

/// So many bytes that are to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrived {
    Message(usize),
    /// They take memory, and are no part of the message.
    Repair(usize),
}

/// Read to the end of the stream. `admit` is asked before bytes are stored; after each arrival `look`
/// sees the buffer, and may take bytes out of it.
///
/// The buffer grows with the bytes that arrive, not with an announced length. `expected`, the size
/// of the peer's last message, saves growing.
pub(crate) async fn gather_with<E>(
    stream: &mut RecvStream,
    expected: usize,
    mut admit: impl FnMut(Arrived) -> Result<(), E>,
    mut look: impl FnMut(&mut Buffer) -> Result<(), E>,
) -> Result<Buffer, GatherError<E>> {
    let mut gathered = Buffer::with_capacity(expected);
    let never = std::future::pending();
    gather_until(stream, &mut gathered, &mut admit, &mut look, never).await?;
    Ok(gathered)
}

/// Read on as [`gather_with`]. Returns false if `stop` came before the end.
pub(crate) async fn gather_until<E>(
    stream: &mut RecvStream,
    gathered: &mut Buffer,
    admit: &mut impl FnMut(Arrived) -> Result<(), E>,
    look: &mut impl FnMut(&mut Buffer) -> Result<(), E>,
    stop: impl Future<Output = ()>,
) -> Result<bool, GatherError<E>> {
    let mut stop = pin!(stop);
    let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
    loop {
        let read = tokio::select! {
            biased;
            read = stream.read_chunks(&mut chunks) => read.map_err(GatherError::Read)?,
            () = &mut stop => return Ok(false),
        };
        let Some(count) = read else {
            return Ok(true);
        };
        let bytes = chunks[..count].iter().map(Bytes::len).sum();
        admit(Arrived::Message(bytes)).map_err(GatherError::Refused)?;
        if gathered.capacity() - gathered.len() < bytes {
            let more = gathered.len().max(bytes);
            gathered.reserve(more);
        }
        for chunk in &mut chunks[..count] {
            gathered.extend_from_slice(chunk);
            // Frees the packet.
            *chunk = Bytes::new();
        }
        look(gathered).map_err(GatherError::Refused)?;
    }
}
