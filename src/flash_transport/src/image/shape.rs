//! Whether an image has its colours last (HWC) or first (CHW) in memory.

use super::error::{ImageError, MAX_SIDE};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Rows of pixels.
    Hwc,
    /// Three planes.
    Chw,
}

/// The shape of an RGB image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageShape {
    pub layout: Layout,
    pub height: usize,
    pub width: usize,
}

impl ImageShape {
    /// The shape of one image or of a batch: only the last three sizes count. A last size of 3
    /// means HWC, else a third-last size of 3 means CHW.
    pub fn of(shape: &[usize]) -> Result<Self, ImageError> {
        let (layout, height, width) = match *shape {
            [.., height, width, 3] => (Layout::Hwc, height, width),
            [.., 3, height, width] => (Layout::Chw, height, width),
            _ => {
                return Err(ImageError::NotRgb {
                    shape: shape.to_vec(),
                })
            }
        };
        Self {
            layout,
            height,
            width,
        }
        .checked()
    }

    /// The same layout in another size.
    pub fn with_size(self, height: usize, width: usize) -> Result<Self, ImageError> {
        Self {
            height,
            width,
            ..self
        }
        .checked()
    }

    pub fn dims(self) -> [usize; 3] {
        match self.layout {
            Layout::Hwc => [self.height, self.width, 3],
            Layout::Chw => [3, self.height, self.width],
        }
    }

    /// How many samples there are.
    #[allow(clippy::len_without_is_empty)] // no image is
    pub fn len(self) -> usize {
        self.height * self.width * 3
    }

    fn checked(self) -> Result<Self, ImageError> {
        let Self { height, width, .. } = self;
        let sides = 1..=MAX_SIDE;
        if sides.contains(&height) && sides.contains(&width) {
            Ok(self)
        } else {
            Err(ImageError::Size { height, width })
        }
    }
}
