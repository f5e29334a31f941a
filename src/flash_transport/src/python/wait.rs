//! Waiting without the GIL, and times from Python.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::OnceLock;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Longest delay of Ctrl-C: Python's signal handlers run only when the main thread checks for
/// signals.
const SLICE: Duration = Duration::from_millis(50);
/// Other threads need not check.
const LONG_SLICE: Duration = Duration::from_secs(3600);

/// Call `wait` with a time to wait, until it returns something.
///
/// Releases the GIL meanwhile: the thread that ends the wait may be a Python thread.
pub fn wait_for<T: Send>(
    py: Python<'_>,
    mut wait: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<T> {
    let slice = if may_be_main_thread() {
        SLICE
    } else {
        LONG_SLICE
    };
    loop {
        if let Some(result) = without_gil(py, || wait(slice)) {
            return Ok(result);
        }
        py.check_signals()?;
    }
}

/// As [`wait_for`], for at most `time`; then None.
pub fn wait_within<T: Send>(
    py: Python<'_>,
    time: Option<Duration>,
    mut wait: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    let until = time.and_then(|time| Instant::now().checked_add(time));
    wait_for(py, |slice| {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let is_last = left.is_some_and(|left| left <= slice);
        match wait(left.map_or(slice, |left| left.min(slice))) {
            None if !is_last => None,
            outcome => Some(outcome),
        }
    })
}

/// Run `work` without the GIL.
///
/// At its end, Python kills daemon threads that ask for the GIL by unwinding their stacks, which
/// makes Rust abort the program. So from then on this does not return on other threads.
pub fn without_gil<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(|| {
        RELEASED.fetch_add(1, Ordering::SeqCst);
        let result = work();
        RELEASED.fetch_sub(1, Ordering::SeqCst);
        while EXITING
            .get()
            .is_some_and(|main| *main != thread::current().id())
        {
            thread::park();
        }
        result
    })
}

/// Threads inside [`without_gil`].
static RELEASED: AtomicUsize = AtomicUsize::new(0);
/// Set when the program ends, to the thread that ends it.
static EXITING: OnceLock<ThreadId> = OnceLock::new();
/// Threads that are about to ask for the GIL get this long. Python passes it on every 5 ms.
const LAST_TURN: Duration = Duration::from_millis(20);

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // Loads numpy's C interface now instead of during a request.
    numpy::dtype::<u8>(py);
    let at_exit = wrap_pyfunction!(_exiting, module)?;
    py.import("atexit")?.call_method1("register", (at_exit,))?;
    Ok(())
}

#[pyfunction]
fn _exiting(py: Python<'_>) {
    let _ = EXITING.set(thread::current().id());
    if RELEASED.load(Ordering::SeqCst) > 0 {
        py.detach(|| thread::sleep(LAST_TURN));
    }
}

/// Does not ask Python, which needs the GIL.
fn may_be_main_thread() -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: both take nothing and cannot fail.
    unsafe {
        libc::gettid() == libc::getpid()
    }
    #[cfg(not(target_os = "linux"))]
    true
}

/// Seconds from Python. None and infinity mean without limit.
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
