//! `TransportRequest`: a request to any server.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::codec;
use super::errors::CodecError;
use crate::buffers::Buffer;
use crate::link::request::Request;
use crate::link::wire::{ErrorCode, ANSWER_OK};
use crate::text::shown;

/// A request, to be answered once with `respond` or `fail`, from any thread.
#[pyclass(frozen, module = "flash_transport")]
pub struct TransportRequest {
    /// The body is moved to `body`.
    request: Request,
    size: usize,
    /// None once it is decoded.
    body: Mutex<Buffer>,
    observation: PyOnceLock<PyResult<Py<PyAny>>>,
}

impl TransportRequest {
    pub fn new(mut request: Request) -> Self {
        Self {
            size: request.body.len(),
            body: Mutex::new(std::mem::take(&mut request.body)),
            request,
            observation: PyOnceLock::new(),
        }
    }

    fn decode(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.request.is_text {
            let text = "observation: expected a binary frame, got a text frame";
            return Err(CodecError::new_err(text));
        }
        let body = std::mem::take(&mut *self.body.lock().unwrap_or_else(PoisonError::into_inner));
        let observation = codec::decode_owned(py, body, 0)?;
        if observation.bind(py).is_instance_of::<PyDict>() {
            return Ok(observation);
        }
        Err(CodecError::new_err(format!(
            "observation: expected a map, got {}",
            observation.bind(py).get_type().name()?
        )))
    }
}

#[pymethods]
impl TransportRequest {
    /// `infer` or `reset`.
    #[getter]
    fn kind(&self) -> &'static str {
        self.request.kind.name()
    }

    /// The client's name; its `peer` if it gave none.
    #[getter]
    fn session(&self) -> &str {
        &self.request.session
    }

    /// The client's address: `ip:port#connection` or `pid=…,uid=…#connection`.
    #[getter]
    fn peer(&self) -> &str {
        &self.request.peer
    }

    /// Bytes of the message.
    #[getter]
    fn size(&self) -> usize {
        self.size
    }

    /// The client's observation; arrays are read-only views on the received bytes.
    #[getter]
    fn observation(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.observation.get_or_init(py, || self.decode(py)) {
            Ok(observation) => Ok(observation.clone_ref(py)),
            Err(error) => Err(error.clone_ref(py)),
        }
    }

    /// Whether the client no longer waits for the answer.
    #[getter]
    fn cancelled(&self) -> bool {
        self.request.reply.is_cancelled()
    }

    /// Send the first actions ahead of the answer; returns their bytes. Only for a client that has
    /// asked for them; harmless if it has left.
    fn send_first_actions(&self, py: Python<'_>, first: &Bound<'_, PyDict>) -> PyResult<usize> {
        let map = codec::encode(py, first)?;
        let size = map.len();
        self.request.reply.first_actions(map)?;
        Ok(size)
    }

    /// Answer with a result; returns the answer's bytes. Harmless if the client has left.
    fn respond(&self, py: Python<'_>, result: &Bound<'_, PyDict>) -> PyResult<usize> {
        let answer = codec::encode_with_prefix(py, ANSWER_OK, result)?;
        let size = answer.len();
        self.request.reply.answer(answer)?;
        Ok(size)
    }

    /// Answer with an error; openpi's own client gets the traceback in its place. Harmless if the
    /// client has left.
    #[pyo3(signature = (code, message, traceback = ""))]
    fn fail(&self, code: &str, message: &str, traceback: &str) -> PyResult<()> {
        let Some(code) = ErrorCode::from_name(code) else {
            let known = ErrorCode::ALL.map(ErrorCode::name).join(", ");
            return Err(PyValueError::new_err(format!(
                "\"{}\" is no error code, expected one of: {known}",
                shown(code)
            )));
        };
        let reply = &self.request.reply;
        match traceback {
            "" => reply.fail(code, message)?,
            _ => reply.fail_with_traceback(code, message, traceback.to_owned())?,
        }
        Ok(())
    }

    fn __repr__(&self) -> String {
        let Request {
            kind,
            session,
            peer,
            ..
        } = &self.request;
        format!(
            "TransportRequest(kind={:?}, session={session:?}, peer={peer:?})",
            kind.name()
        )
    }
}
