//! Warnings for the user through Python's `logging`.

use pyo3::prelude::*;

use crate::quic::settings::SocketBuffers;

pub fn warn_of_small_buffers(py: Python<'_>, buffers: SocketBuffers) -> PyResult<()> {
    if let Some(shortage) = buffers.shortage() {
        let logger = py
            .import("logging")?
            .call_method1("getLogger", ("flash_transport",))?;
        logger.call_method1("warning", (shortage,))?;
    }
    Ok(())
}
