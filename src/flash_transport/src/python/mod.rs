//! The Python face: converts and releases the GIL, decides nothing.
mod client;
pub mod codec;
pub mod errors;
pub mod image;
#[cfg(unix)]
mod local_server;
mod log;
mod server;
mod serving;
mod trust;
mod wait;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    client::register(module)?;
    codec::register(module)?;
    image::register(module)?;
    #[cfg(unix)]
    local_server::register(module)?;
    server::register(module)?;
    wait::register(module)
}
