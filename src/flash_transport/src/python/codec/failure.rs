//! Why a value cannot be packed, and its path in the message.

use pyo3::prelude::*;

use crate::codec::CodecError;
use crate::python::errors;

/// Why a value cannot be packed, and the path to it, innermost key first.
pub(super) struct Failure(Box<FailureParts>);

struct FailureParts {
    path: Vec<String>,
    reason: Reason,
}

enum Reason {
    Refused(String),
    /// Python code failed; its own error is raised.
    Python(PyErr),
}

impl Failure {
    fn new(reason: Reason) -> Self {
        Self(Box::new(FailureParts {
            path: Vec::new(),
            reason,
        }))
    }

    pub fn refused(reason: String) -> Self {
        Self::new(Reason::Refused(reason))
    }

    pub fn at(mut self, key: &Bound<'_, PyAny>) -> Self {
        let name = key
            .repr()
            .map_or_else(|_| "?".to_owned(), |name| name.to_string());
        self.0.path.push(format!("[{name}]"));
        self
    }

    pub fn at_index(mut self, index: usize) -> Self {
        self.0.path.push(format!("[{index}]"));
        self
    }
}

impl From<CodecError> for Failure {
    fn from(error: CodecError) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::new(Reason::Python(error))
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        let FailureParts { path, reason } = *failure.0;
        match reason {
            Reason::Python(error) => error,
            Reason::Refused(reason) if path.is_empty() => {
                errors::CodecError::new_err(format!("cannot pack the value: {reason}"))
            }
            Reason::Refused(reason) => {
                let path: String = path.into_iter().rev().collect();
                errors::CodecError::new_err(format!("cannot pack the value at {path}: {reason}"))
            }
        }
    }
}
