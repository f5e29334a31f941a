//! Image work on numpy arrays.

use numpy::{
    Element, PyArray1, PyArray3, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::codec::byte_view;
use super::errors;
use crate::image::{self, Frame, FrameInfo, ImageError, ImageShape, Layout, Sample};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(resize_with_pad, module)?)?;
    module.add_function(wrap_pyfunction!(image_to_rgb, module)?)?;
    module.add_function(wrap_pyfunction!(decode_image, module)?)?;
    module.add_function(wrap_pyfunction!(image_size, module)?)?;
    module.add_function(wrap_pyfunction!(encode_jpeg, module)?)?;
    module.add_function(wrap_pyfunction!(jpeg_message, module)?)
}

/// Fit images into the given size, padded with black, as openpi does.
#[pyfunction]
fn resize_with_pad<'py>(
    image: &Bound<'py, PyAny>,
    height: usize,
    width: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let untyped = numpy_array(image)?;
    if let Ok(array) = image.cast::<PyArrayDyn<u8>>() {
        resize_array(array, height, width)
    } else if let Ok(array) = image.cast::<PyArrayDyn<f32>>() {
        resize_array(array, height, width)
    } else {
        let dtype = untyped.dtype().to_string();
        Err(ImageError::Dtype { dtype }.into())
    }
}

fn resize_array<'py, S: Sample + Element>(
    array: &Bound<'py, PyArrayDyn<S>>,
    height: usize,
    width: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    let shape = ImageShape::of(array.shape())?;
    let target = shape.with_size(height, width)?;
    if shape == target {
        return Ok(array.clone().into_any());
    }
    let array = contiguous(array)?;
    let mut dims = array.shape().to_vec();
    let images = dims.len() - 3;
    dims[images..].copy_from_slice(&target.dims());
    let samples = array.try_readonly()?;
    let samples = samples.as_slice()?;
    let out = PyArrayDyn::<S>::zeros(py, dims, false);
    {
        let mut out = out.try_readwrite()?;
        let outs = out.as_slice_mut()?.chunks_exact_mut(target.len());
        // a fifth of a millisecond for a VGA image, in which other cameras' callbacks can run
        py.detach(|| {
            let mut images = samples.chunks_exact(shape.len()).zip(outs);
            images.try_for_each(|(image, out)| image::resize_with_pad(image, shape, out, target))
        })?;
    }
    Ok(out.into_any())
}

/// Convert the data of a `sensor_msgs/Image` to a new uint8 array `[height, width, 3]`.
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

/// Rows and columns of a JPEG or PNG, read from its header.
#[pyfunction]
fn image_size(data: &Bound<'_, PyAny>) -> PyResult<(usize, usize)> {
    let data = byte_view(data)?;
    let data = data.try_readonly()?;
    Ok(image::image_size(data.as_slice()?)?)
}

/// Decode a JPEG or PNG into a new uint8 array `[height, width, 3]`. An image of an 8K camera has 100 MB.
#[pyfunction]
#[pyo3(signature = (data, *, at_least = None, max_bytes = 134217728))]
fn decode_image<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyAny>,
    at_least: Option<(usize, usize)>,
    max_bytes: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let data = byte_view(data)?;
    let data = data.try_readonly()?;
    let data = data.as_slice()?;
    // milliseconds for a large image
    let image = py.detach(|| image::decode_image(data, at_least, max_bytes))?;
    let shape = [image.height, image.width, 3];
    Ok(PyArray1::from_vec(py, image.pixels)
        .reshape(shape)?
        .into_any())
}

/// Encode an RGB image as JPEG.
#[pyfunction]
#[pyo3(signature = (image, quality = 92))]
fn encode_jpeg<'py>(image: &Bound<'py, PyAny>, quality: u8) -> PyResult<Bound<'py, PyBytes>> {
    let (jpeg, _) = encoded(image, quality)?;
    Ok(PyBytes::new(image.py(), &jpeg))
}

/// An encoded image to put into an observation in place of an array.
#[pyfunction]
#[pyo3(signature = (image, quality = 92))]
fn jpeg_message<'py>(image: &Bound<'py, PyAny>, quality: u8) -> PyResult<Bound<'py, PyDict>> {
    let py = image.py();
    let (jpeg, layout) = encoded(image, quality)?;
    let message = PyDict::new(py);
    message.set_item(intern!(py, "__image__"), intern!(py, "jpeg"))?;
    message.set_item(intern!(py, "data"), PyBytes::new(py, &jpeg))?;
    if layout == Layout::Chw {
        message.set_item(intern!(py, "layout"), intern!(py, "chw"))?;
    }
    Ok(message)
}

fn encoded(image: &Bound<'_, PyAny>, quality: u8) -> PyResult<(Vec<u8>, Layout)> {
    let py = image.py();
    let array = numpy_array(image)?;
    let dims = array.shape();
    let Ok(array) = image.cast::<PyArrayDyn<u8>>() else {
        let dtype = array.dtype().to_string();
        return Err(ImageError::DtypeToEncode { dtype }.into());
    };
    let shape = ImageShape::of(dims)?;
    if dims.len() != 3 {
        let shape = dims.to_vec();
        return Err(ImageError::NotOne { shape }.into());
    }
    let array = contiguous(array)?;
    let pixels = array.try_readonly()?;
    let pixels = pixels.as_slice()?;
    let jpeg = py.detach(|| image::encode_jpeg(pixels, shape, quality))?;
    Ok((jpeg, shape.layout))
}

fn numpy_array<'a, 'py>(image: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyUntypedArray>> {
    match image.cast::<PyUntypedArray>() {
        Ok(array) => Ok(array),
        Err(_) => {
            let got = image.get_type().fully_qualified_name()?.to_string();
            Err(ImageError::NotAnArray { got }.into())
        }
    }
}

fn contiguous<'py, S: Element>(
    array: &Bound<'py, PyArrayDyn<S>>,
) -> PyResult<Bound<'py, PyArrayDyn<S>>> {
    if array.is_c_contiguous() {
        return Ok(array.clone());
    }
    let py = array.py();
    let copy = py
        .import(intern!(py, "numpy"))?
        .call_method1(intern!(py, "ascontiguousarray"), (array,))?;
    Ok(copy.cast_into()?)
}

impl From<ImageError> for PyErr {
    fn from(error: ImageError) -> Self {
        errors::ImageError::new_err(error.to_string())
    }
}
