//! `resize_with_pad` and `image_to_rgb` on numpy arrays.
use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let _ = module;
    Ok(())
}
