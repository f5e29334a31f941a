//! Waiting without the GIL, and times as Python has them.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// How long Ctrl-C may go unnoticed: Python's signal handlers run only when somebody asks for it.
const SLICE: Duration = Duration::from_millis(50);

/// Call `wait` with a short time until it returns something.
///
/// The GIL is released meanwhile: the thread that will bring what is waited for may be a Python thread.
pub fn wait_for<T: Send>(
    py: Python<'_>,
    mut wait: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<T> {
    loop {
        if let Some(result) = py.detach(|| wait(SLICE)) {
            return Ok(result);
        }
        py.check_signals()?;
    }
}

/// Seconds from Python. None and infinity mean: without end.
pub fn duration(name: &str, seconds: Option<f64>) -> PyResult<Option<Duration>> {
    match seconds {
        None => Ok(None),
        Some(seconds) if seconds == f64::INFINITY => Ok(None),
        Some(seconds) => match Duration::try_from_secs_f64(seconds) {
            Ok(duration) => Ok(Some(duration)),
            Err(_) => Err(PyValueError::new_err(format!(
                "{name} must be a number of seconds from 0 up, got {seconds}"
            ))),
        },
    }
}
