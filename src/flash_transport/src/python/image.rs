//! `resize_with_pad` and `image_to_rgb` on numpy arrays.

use numpy::{PyArray3, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::intern;
use pyo3::prelude::*;

use super::codec::byte_view;
use super::errors;
use crate::image::{self, Frame, FrameInfo, ImageError, ImageShape};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(resize_with_pad, module)?)?;
    module.add_function(wrap_pyfunction!(image_to_rgb, module)?)
}

/// Fit a uint8 image into the given size, black around it, as openpi's client does with PIL.
#[pyfunction]
fn resize_with_pad<'py>(
    image: &Bound<'py, PyAny>,
    height: usize,
    width: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let py = image.py();
    let array = uint8_array(image)?;
    let shape = ImageShape::of(array.shape())?;
    let target = shape.with_size(height, width)?;
    if shape == target {
        return Ok(array.into_any());
    }
    let array = if array.is_c_contiguous() {
        array
    } else {
        py.import(intern!(py, "numpy"))?
            .call_method1(intern!(py, "ascontiguousarray"), (array,))?
            .cast_into()?
    };
    let pixels = array.try_readonly()?;
    let pixels = pixels.as_slice()?;
    let out = PyArray3::<u8>::zeros(py, target.dims(), false);
    {
        let mut out = out.try_readwrite()?;
        let out = out.as_slice_mut()?;
        // a third of a millisecond for a VGA image, in which other cameras' callbacks can run
        py.detach(|| image::resize_with_pad(pixels, shape, out, target))?;
    }
    Ok(out.into_any())
}

/// Turn what `sensor_msgs/Image` carries into a new uint8 array `[height, width, 3]`.
#[pyfunction]
#[pyo3(signature = (data, *, height, width, step, encoding, is_bigendian = false))]
fn image_to_rgb<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyAny>,
    height: u32,
    width: u32,
    step: u32,
    encoding: &str,
    is_bigendian: bool,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let data = byte_view(data)?;
    let data = data.try_readonly()?;
    let info = FrameInfo {
        encoding,
        height,
        width,
        step,
        big_endian: is_bigendian,
    };
    let frame = Frame::new(data.as_slice()?, info)?;
    let out = PyArray3::<u8>::zeros(py, frame.rgb_shape(), false);
    {
        let mut out = out.try_readwrite()?;
        let out = out.as_slice_mut()?;
        // as for resizing
        py.detach(|| frame.write_rgb(out));
    }
    Ok(out)
}

fn uint8_array<'py>(image: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<u8>>> {
    let Ok(array) = image.cast::<PyUntypedArray>() else {
        let got = image.get_type().fully_qualified_name()?.to_string();
        return Err(ImageError::NotAnArray { got }.into());
    };
    match image.cast::<PyArrayDyn<u8>>() {
        Ok(array) => Ok(array.clone()),
        Err(_) => {
            let dtype = array.dtype().to_string();
            Err(ImageError::NotUint8 { dtype }.into())
        }
    }
}

impl From<ImageError> for PyErr {
    fn from(error: ImageError) -> Self {
        errors::ImageError::new_err(error.to_string())
    }
}
