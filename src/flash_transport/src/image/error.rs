//! Why an image cannot be handled. Every message says what it got and what it expected.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("image has shape {shape:?}, expected [height, width, 3] or [3, height, width]")]
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

    #[error("image has dtype {dtype}, expected uint8")]
    NotUint8 { dtype: String },

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
}

/// No camera is near it, and no size below it overflows anything.
pub(super) const MAX_SIDE: usize = 1 << 16;
