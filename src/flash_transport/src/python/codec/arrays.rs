//! numpy objects, as far as packing needs them.

use std::ptr;

use numpy::npyffi::{self, npy_intp, NpyTypes, PY_ARRAY_API};
use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::ffi;
use pyo3::prelude::*;

use super::failure::Failure;
use crate::codec::Dtype;

/// Copy an array to `out` in C order, as its own dtype.
///
/// # Safety
/// `out` must be valid for writes of as many bytes as the array has, and nothing else may access
/// them. The array must not be one of objects.
pub(super) unsafe fn copy_strided<'py>(
    py: Python<'py>,
    array: &Bound<'py, PyUntypedArray>,
    out: *mut u8,
) -> PyResult<()> {
    let mut dims: Vec<npy_intp> = array.shape().iter().map(|dim| *dim as npy_intp).collect();
    // SAFETY: the temporary array describes the memory at `out`, which is as large as dtype and
    // shape say, and is dropped before this function returns. numpy may release the GIL while it
    // copies, as for any copy; other threads can then change the elements, but not the size, which
    // was read before.
    unsafe {
        let target = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            npyffi::get_type_object(py, NpyTypes::PyArray_Type),
            array.dtype().into_dtype_ptr(),
            dims.len() as i32,
            dims.as_mut_ptr(),
            ptr::null_mut(),
            out.cast(),
            npyffi::NPY_ARRAY_WRITEABLE,
            ptr::null_mut(),
        );
        let target = Bound::from_owned_ptr_or_err(py, target)?;
        match PY_ARRAY_API.PyArray_CopyInto(py, target.as_ptr().cast(), array.as_array_ptr()) {
            0 => Ok(()),
            _ => Err(PyErr::fetch(py)),
        }
    }
}

/// numpy's `dtype.str`, if openpi sends arrays of this kind.
pub(super) fn dtype_text(dtype: &Bound<'_, PyArrayDescr>) -> Result<String, Failure> {
    let kind = dtype.kind();
    let order = match dtype.byteorder() {
        b'=' if cfg!(target_endian = "little") => '<',
        b'=' => '>',
        order => char::from(order),
    };
    // only numpy's own types: others may share a kind but have an unknown representation
    let text = match kind {
        _ if dtype.num() > LAST_BUILTIN_TYPE => None,
        b'b' | b'i' | b'u' | b'f' | b'S' => {
            Some(format!("{order}{}{}", char::from(kind), dtype.itemsize()))
        }
        b'U' => Some(format!("{order}U{}", dtype.itemsize() / 4)),
        b'M' | b'm' => Some(dtype.getattr("str")?.extract::<String>()?),
        _ => None,
    };
    match text {
        Some(text) if Dtype::parse(&text).is_ok() => Ok(text),
        _ => Err(Failure::refused(format!(
            "dtype {dtype} (kind {}) is not supported, convert it, for example with .astype('float32')",
            char::from(kind)
        ))),
    }
}

/// NPY_HALF, the largest type number of numpy's supported types.
const LAST_BUILTIN_TYPE: i32 = 23;

pub(super) fn byte_length(array: &Bound<'_, PyUntypedArray>) -> usize {
    array.len() * array.dtype().itemsize()
}

pub(super) fn data_of(array: &Bound<'_, PyUntypedArray>) -> *const u8 {
    // SAFETY: the pointer comes from a live array object.
    unsafe { (*array.as_array_ptr()).fields.data.cast() }
}

pub(super) fn is_exact(array: &Bound<'_, PyUntypedArray>) -> bool {
    // SAFETY: only reads the type of a live object.
    unsafe { npyffi::PyArray_CheckExact(array.py(), array.as_ptr()) != 0 }
}

pub(super) fn is_numpy_scalar(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: both objects are alive; numpy never frees its types.
    unsafe {
        let generic = npyffi::get_type_object(value.py(), NpyTypes::PyGenericArrType_Type);
        ffi::PyObject_TypeCheck(value.as_ptr(), generic) != 0
    }
}
