//! The Python bindings: they convert values and release the GIL, and hold no logic.
mod client;
pub mod codec;
pub mod errors;
pub mod image;
#[cfg(unix)]
mod local_server;
mod log;
mod quic_server;
mod request;
mod transport_server;
mod trust;
mod wait;
#[cfg(unix)]
mod websocket_server;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    client::register(module)?;
    codec::register(module)?;
    image::register(module)?;
    module.add_class::<request::TransportRequest>()?;
    module.add_class::<transport_server::TransportServer>()?;
    quic_server::register(module)?;
    #[cfg(unix)]
    local_server::register(module)?;
    #[cfg(unix)]
    websocket_server::register(module)?;
    wait::register(module)
}
