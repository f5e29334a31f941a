//! The exceptions of `flash_transport.errors`, as Rust types with `new_err`.
//!
//! They are written in Python, where their tree, fields and texts are read; this only imports them.

use pyo3::import_exception;

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
