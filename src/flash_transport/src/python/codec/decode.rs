//! msgpack to Python objects.

use std::ptr;

use numpy::npyffi::{self, npy_intp, NpyTypes, PY_ARRAY_API};
use numpy::{
    dtype, PyArray1, PyArrayDescr, PyArrayDescrMethods, PyArrayMethods, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyOverflowError, PyRuntimeWarning, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString};

use crate::buffers::Buffer;
use crate::codec::{self, ArrayView, Build, Dtype, Key, Kind, Leaf, Limits, Tagged};
use crate::python::errors;

/// Decode the message in `buffer[offset..]`. Arrays are read-only views that keep `buffer` alive.
///
/// `buffer` is `bytes`, or supports the buffer protocol. For bytes that Rust owns, see
/// [`decode_owned`].
pub fn decode(py: Python<'_>, buffer: Bound<'_, PyAny>, offset: usize) -> PyResult<Py<PyAny>> {
    if let Ok(bytes) = buffer.cast::<PyBytes>() {
        return decode_slice(py, bytes.as_bytes(), &buffer, offset);
    }
    let view = byte_view(&buffer)?;
    // SAFETY: `view` keeps the bytes alive and in place. Other Python code may be able to write to
    // them; this holds the GIL and reads each byte once, except for array data, which becomes
    // views.
    let message = unsafe { view.as_slice() }?;
    decode_slice(py, message, view.as_any(), offset)
}

/// As [`decode`], for bytes that Rust owns; they are moved, not copied.
pub fn decode_owned(
    py: Python<'_>,
    buffer: impl Into<Buffer>,
    offset: usize,
) -> PyResult<Py<PyAny>> {
    let owner = Bound::new(py, Received(buffer.into()))?;
    decode_slice(py, &owner.get().0, owner.as_any(), offset)
}

/// The bytes of a message, alive as long as there are views on them. Does not export them, so that
/// no code can make those views writable.
#[pyclass(frozen, module = "flash_transport")]
struct Received(Buffer);

/// A flat array over the memory of an object that supports the buffer protocol.
pub fn byte_view<'py>(buffer: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<u8>>> {
    if let Ok(array) = buffer.cast::<PyArray1<u8>>() {
        if array.is_c_contiguous() {
            return Ok(array.clone());
        }
    }
    let py = buffer.py();
    let view = py
        .import(intern!(py, "numpy"))?
        .call_method1(intern!(py, "frombuffer"), (buffer, dtype::<u8>(py)))?;
    Ok(view.cast_into::<PyArray1<u8>>()?)
}

fn decode_slice<'py>(
    py: Python<'py>,
    buffer: &[u8],
    owner: &Bound<'py, PyAny>,
    offset: usize,
) -> PyResult<Py<PyAny>> {
    let message = buffer.get(offset..).unwrap_or_default();
    let mut objects = Objects { py, owner };
    codec::decode(message, Limits::DEFAULT, &mut objects).map(Bound::unbind)
}

struct Objects<'a, 'py> {
    py: Python<'py>,
    /// Keeps the message's bytes alive.
    owner: &'a Bound<'py, PyAny>,
}

impl<'a, 'py> Build<'a> for Objects<'_, 'py> {
    type Value = Bound<'py, PyAny>;
    type List = Vec<Bound<'py, PyAny>>;
    type Map = Bound<'py, PyDict>;
    type Error = PyErr;

    fn leaf(&mut self, leaf: Leaf<'a>) -> PyResult<Self::Value> {
        let py = self.py;
        Ok(match leaf {
            Leaf::Nil => py.None().into_bound(py),
            Leaf::Bool(value) => PyBool::new(py, value).to_owned().into_any(),
            Leaf::Unsigned(value) => PyInt::new(py, value).into_any(),
            Leaf::Negative(value) => PyInt::new(py, value).into_any(),
            Leaf::Float(value) => PyFloat::new(py, value).into_any(),
            Leaf::Text(text) => PyString::new(py, text).into_any(),
            Leaf::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        })
    }

    fn tagged(&mut self, tagged: Tagged<'a>) -> PyResult<Self::Value> {
        match tagged {
            Tagged::Array(view) => self.array(view),
            Tagged::Scalar { dtype, data } => self.scalar(dtype, data),
        }
        .map_err(|error| refused_by_numpy(self.py, error))
    }

    fn new_list(&mut self, _length: usize) -> PyResult<Self::List> {
        Ok(Vec::new())
    }

    fn push(&mut self, list: &mut Self::List, value: Self::Value) -> PyResult<()> {
        list.push(value);
        Ok(())
    }

    fn end_list(&mut self, list: Self::List) -> PyResult<Self::Value> {
        Ok(PyList::new(self.py, list)?.into_any())
    }

    fn new_map(&mut self, _length: usize) -> PyResult<Self::Map> {
        Ok(PyDict::new(self.py))
    }

    fn insert(&mut self, map: &mut Self::Map, key: Key<'a>, value: Self::Value) -> PyResult<()> {
        match key {
            Key::Text(text) => map.set_item(PyString::new(self.py, text), value),
            Key::Bytes(bytes) => map.set_item(PyBytes::new(self.py, bytes), value),
        }
    }

    fn end_map(&mut self, map: Self::Map) -> PyResult<Self::Value> {
        Ok(map.into_any())
    }
}

impl<'py> Objects<'_, 'py> {
    /// A read-only array over the message's bytes.
    fn array(&self, view: ArrayView<'_>) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let descriptor = descriptor(py, view.dtype)?;
        debug_assert_eq!(descriptor.itemsize(), view.dtype.item_size());
        let mut dims: Vec<npy_intp> = view.shape.iter().map(|dim| *dim as npy_intp).collect();
        // SAFETY: `view.data` is as long as dtype and shape say (the codec checked it) and belongs
        // to `owner`, which the array keeps alive as its base. Without the writable flag nothing
        // changes the bytes through it.
        unsafe {
            let array = PY_ARRAY_API.PyArray_NewFromDescr(
                py,
                npyffi::get_type_object(py, NpyTypes::PyArray_Type),
                descriptor.into_dtype_ptr(),
                dims.len() as i32,
                dims.as_mut_ptr(),
                ptr::null_mut(),
                view.data.as_ptr().cast_mut().cast(),
                0,
                ptr::null_mut(),
            );
            let array = Bound::from_owned_ptr_or_err(py, array)?;
            let owner = self.owner.clone().into_ptr();
            match PY_ARRAY_API.PyArray_SetBaseObject(py, array.as_ptr().cast(), owner) {
                0 => Ok(array),
                _ => Err(PyErr::fetch(py)),
            }
        }
    }

    fn scalar(&mut self, dtype: Dtype<'_>, data: Leaf<'_>) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let descriptor = descriptor(py, dtype)?;
        let data = Build::leaf(self, data)?;
        match dtype.kind() {
            // the type alone would lose the time unit
            Kind::Datetime | Kind::Timedelta => py
                .import(intern!(py, "numpy"))?
                .call_method1(intern!(py, "array"), (data, descriptor))?
                .get_item(()),
            _ => descriptor.typeobj().call1((data,)),
        }
    }
}

fn descriptor<'py>(py: Python<'py>, text: Dtype<'_>) -> PyResult<Bound<'py, PyArrayDescr>> {
    match text.as_str() {
        "|u1" => Ok(dtype::<u8>(py)),
        "<f4" if cfg!(target_endian = "little") => Ok(dtype::<f32>(py)),
        "<f8" if cfg!(target_endian = "little") => Ok(dtype::<f64>(py)),
        text => PyArrayDescr::new(py, text),
    }
}

/// numpy's error about received data, as a CodecError.
fn refused_by_numpy(py: Python<'_>, error: PyErr) -> PyErr {
    let about_the_value = error.is_instance_of::<PyValueError>(py)
        || error.is_instance_of::<PyTypeError>(py)
        || error.is_instance_of::<PyOverflowError>(py)
        // a number too large for its dtype, if the user turned warnings into errors
        || error.is_instance_of::<PyRuntimeWarning>(py);
    if !about_the_value || error.is_instance_of::<errors::CodecError>(py) {
        return error;
    }
    let refused = errors::CodecError::new_err(format!("numpy refused: {}", error.value(py)));
    refused.set_cause(py, Some(error));
    refused
}
