//! Image work for robot cameras, equal to what openpi does with PIL.
//!
//! [`resize_with_pad`] is openpi's `image_tools.resize_with_pad`; [`Frame`] takes what `sensor_msgs/Image`
//! carries. Both write into memory of the caller.

mod encoding;
mod error;
mod resize;
mod shape;
#[cfg(test)]
mod tests;

// The public interface is:
pub use encoding::{encodings, Frame, FrameInfo};
pub use error::ImageError;
pub use resize::{resize_with_pad, Fit};
pub use shape::{ImageShape, Layout};
