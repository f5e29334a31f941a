//! Why an image cannot be handled. Every message says what it got and what it expected.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error(
        "image has shape {shape:?}, expected [..., height, width, 3] or [..., 3, height, width]"
    )]
    NotRgb { shape: Vec<usize> },

    #[error("image is {height} rows by {width} columns, expected from 1 to {MAX_SIDE} of each")]
    Size { height: usize, width: usize },

    #[error("image of {height} rows by {width} columns is too thin to fit into {target_height} by {target_width}: not one pixel is left of its short side")]
    TooThin {
        height: usize,
        width: usize,
        target_height: usize,
        target_width: usize,
    },

    #[error("image has dtype {dtype}, expected uint8 or float32")]
    Dtype { dtype: String },

    #[error("image has dtype {dtype}, expected uint8")]
    DtypeToEncode { dtype: String },

    #[error(
        "image has shape {shape:?}, expected one image, [height, width, 3] or [3, height, width]"
    )]
    NotOne { shape: Vec<usize> },

    #[error("image is {got}, expected a numpy array")]
    NotAnArray { got: String },

    #[error("image encoding {encoding:?} is not supported, expected one of {known}")]
    UnknownEncoding { encoding: String, known: String },

    #[error("image step is {step} bytes, expected at least {expected} for {width} columns of {encoding}")]
    ShortStep {
        step: u32,
        expected: u64,
        width: u32,
        encoding: &'static str,
    },

    #[error("image has {got} bytes of data, expected at least {expected} for {rows} rows of step {step} in {encoding}")]
    ShortData {
        got: usize,
        expected: u64,
        rows: u64,
        step: u32,
        encoding: &'static str,
    },

    #[error("jpeg quality is {quality}, expected from 1 to 100")]
    Quality { quality: u8 },

    #[error("image is {height} rows by {width} columns, a jpeg has at most 65535 of each")]
    JpegSize { height: usize, width: usize },

    #[error("encoded image is {got} bytes that start with {start:02x?}, expected a JPEG (ff d8) or a PNG (89 50 4e 47)")]
    UnknownFormat { got: usize, start: Vec<u8> },

    #[error("{format} of {got} bytes cannot be decoded: {reason}")]
    Damaged {
        format: &'static str,
        got: usize,
        reason: String,
    },

    #[error("{format} of {height} rows by {width} columns is {decoded} bytes when decoded, expected at most {limit}")]
    TooLarge {
        format: &'static str,
        height: usize,
        width: usize,
        decoded: u64,
        limit: usize,
    },
}

/// Above any camera's, and small enough that no size overflows.
pub(super) const MAX_SIDE: usize = 1 << 16;
