//! Collects the data of a stream in one buffer.

use bytes::Bytes;
use quinn::{ReadError, RecvStream};

use crate::buffers::Buffer;

/// Most packets taken from the connection at a time. A wake-up rarely brings more.
const CHUNKS: usize = 32;

#[derive(Debug)]
pub(crate) enum GatherError<E> {
    Read(ReadError),
    /// `admit` or `look` refused these bytes.
    Refused(E),
}

/// Read to the end of the stream. `admit` is asked before bytes are stored.
///
/// The buffer grows with the bytes that arrive, not with an announced length. `expected`, the size
/// of the peer's last message, saves growing.
pub(crate) async fn gather<E>(
    stream: &mut RecvStream,
    expected: usize,
    admit: impl FnMut(usize) -> Result<(), E>,
) -> Result<Buffer, GatherError<E>> {
    gather_with(stream, expected, admit, |_| Ok(())).await
}

/// As [`gather`]; after each arrival `look` sees the buffer, and may take bytes out of it.
pub(crate) async fn gather_with<E>(
    stream: &mut RecvStream,
    expected: usize,
    mut admit: impl FnMut(usize) -> Result<(), E>,
    mut look: impl FnMut(&mut Buffer) -> Result<(), E>,
) -> Result<Buffer, GatherError<E>> {
    let mut gathered = Buffer::with_capacity(expected);
    let mut chunks: [Bytes; CHUNKS] = std::array::from_fn(|_| Bytes::new());
    while let Some(count) = stream
        .read_chunks(&mut chunks)
        .await
        .map_err(GatherError::Read)?
    {
        let bytes = chunks[..count].iter().map(Bytes::len).sum();
        admit(bytes).map_err(GatherError::Refused)?;
        if gathered.capacity() - gathered.len() < bytes {
            let more = gathered.len().max(bytes);
            gathered.reserve(more);
        }
        for chunk in &mut chunks[..count] {
            gathered.extend_from_slice(chunk);
            // Frees the packet.
            *chunk = Bytes::new();
        }
        look(&mut gathered).map_err(GatherError::Refused)?;
    }
    Ok(gathered)
}
