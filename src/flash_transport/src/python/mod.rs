//! The Python face: converts and releases the GIL, decides nothing.
pub mod codec;
pub mod errors;
pub mod image;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    codec::register(module)?;
    image::register(module)?;
    Ok(())
}
