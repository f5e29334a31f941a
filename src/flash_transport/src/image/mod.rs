//! Images of robot cameras, processed as openpi does with PIL.
//!
//! [`resize_with_pad`] is openpi's `image_tools.resize_with_pad`; [`Frame`] reads
//! `sensor_msgs/Image`, [`decode_image`] the data of `sensor_msgs/CompressedImage`; [`encode_jpeg`]
//! makes an image small enough for a slow link.

mod decode;
mod encoding;
mod error;
mod jpeg;
mod resize;
mod shape;
#[cfg(test)]
mod tests;

// The public interface is:
pub use decode::{decode_image, image_size, RgbImage};
pub use encoding::{encodings, Frame, FrameInfo};
pub use error::ImageError;
pub use jpeg::encode_jpeg;
pub use resize::{resize_with_pad, Fit, Sample};
pub use shape::{ImageShape, Layout};
