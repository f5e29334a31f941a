//! The exceptions of `flash_transport.errors` as Rust types with `new_err`, and which error becomes
//! which.
//!
//! They are defined in Python, with their hierarchy, fields and texts; this only imports them.

use std::io;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::import_exception;
use pyo3::prelude::*;

use crate::link::address::AddressError;
use crate::link::keys::ApiKeyError;
use crate::link::request::ReplyError;
use crate::quic::client::ClientError;
use crate::relay::access::RelayAccessError;
use crate::trust::{AuthoritiesError, FingerprintError, IdentityError};

import_exception!(flash_transport.errors, FlashTransportError);
import_exception!(flash_transport.errors, Timeout);
import_exception!(flash_transport.errors, Disconnected);
// Takes `(code, message)`.
import_exception!(flash_transport.errors, ServerError);
import_exception!(flash_transport.errors, Superseded);
import_exception!(flash_transport.errors, AuthenticationFailed);
import_exception!(flash_transport.errors, UntrustedServer);
import_exception!(flash_transport.errors, CodecError);
import_exception!(flash_transport.errors, ImageError);
import_exception!(flash_transport.not_begun, NotBegun);

impl From<ClientError> for PyErr {
    fn from(error: ClientError) -> PyErr {
        let text = error.to_string();
        match error {
            ClientError::Timeout { .. } => Timeout::new_err(text),
            ClientError::Unreachable { .. }
            | ClientError::NoLocalServer { .. }
            | ClientError::NoRelayedServer { .. }
            | ClientError::OtherProtocol { .. }
            | ClientError::Lost { .. }
            | ClientError::Socket { .. }
            | ClientError::Closed { .. } => Disconnected::new_err(text),
            ClientError::NotBegun { .. } => NotBegun::new_err(text),
            ClientError::AuthenticationFailed { .. } => AuthenticationFailed::new_err(text),
            ClientError::UntrustedServer { .. } => UntrustedServer::new_err(text),
            ClientError::Superseded { .. } => Superseded::new_err(text),
            ClientError::Server(failure) => ServerError::new_err((failure.code, failure.message)),
            ClientError::BadAnswer { .. } | ClientError::AnswerTooLarge { .. } => {
                CodecError::new_err(text)
            }
            ClientError::Hello(_) => PyValueError::new_err(text),
        }
    }
}

impl From<ReplyError> for PyErr {
    fn from(error: ReplyError) -> PyErr {
        FlashTransportError::new_err(error.to_string())
    }
}

impl From<AddressError> for PyErr {
    fn from(error: AddressError) -> PyErr {
        PyValueError::new_err(error.to_string())
    }
}

impl From<ApiKeyError> for PyErr {
    fn from(error: ApiKeyError) -> PyErr {
        PyValueError::new_err(error.to_string())
    }
}

impl From<RelayAccessError> for PyErr {
    fn from(error: RelayAccessError) -> PyErr {
        PyValueError::new_err(error.to_string())
    }
}

impl From<FingerprintError> for PyErr {
    fn from(error: FingerprintError) -> PyErr {
        PyValueError::new_err(error.to_string())
    }
}

impl From<AuthoritiesError> for PyErr {
    fn from(error: AuthoritiesError) -> PyErr {
        PyValueError::new_err(error.to_string())
    }
}

impl From<IdentityError> for PyErr {
    fn from(error: IdentityError) -> PyErr {
        let text = error.to_string();
        match error {
            // With the file's name, so that it cannot be taken for an error about the address.
            IdentityError::File { source, path, .. } => PyOSError::new_err((
                source.raw_os_error().unwrap_or_default(),
                text,
                path.display().to_string(),
            )),
            IdentityError::Generate(_)
            | IdentityError::Broken { .. }
            | IdentityError::NotOurs { .. } => FlashTransportError::new_err(text),
        }
    }
}

/// An `OSError` with the `errno` of `source` and the message `text`.
pub fn os_error(source: &io::Error, text: String) -> PyErr {
    match source.raw_os_error() {
        Some(number) => PyOSError::new_err((number, text)),
        None => PyOSError::new_err(text),
    }
}
