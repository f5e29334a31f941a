//! The input of a conversion.

/// The data of an image; its length has been checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Samples<'a> {
    pub data: &'a [u8],
    pub height: usize,
    pub width: usize,
    /// Bytes from the start of a row to the start of the next.
    pub step: usize,
    /// Byte order of samples that have more than one byte.
    pub big_endian: bool,
}

impl<'a> Samples<'a> {
    /// Rows with their padding; the last row may come without it.
    #[inline]
    pub fn rows(&self) -> impl Iterator<Item = &'a [u8]> {
        self.data.chunks(self.step)
    }
}
