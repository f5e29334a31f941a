//! The trust settings of a client, from the keywords of its constructor.

use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::trust::{danger::AcceptAnyServer, Authorities, KnownServers, ServerTrust};

/// At most one of the three is given; without any, every server is accepted.
pub fn server_trust(
    server_fingerprint: Option<&str>,
    ca_file: Option<PathBuf>,
    known_servers: Option<PathBuf>,
) -> PyResult<ServerTrust> {
    match (server_fingerprint, ca_file, known_servers) {
        (Some(fingerprint), None, None) => Ok(ServerTrust::Pinned(fingerprint.parse()?)),
        (None, Some(file), None) => Ok(ServerTrust::Authorities(Authorities::load(&file)?)),
        (None, None, Some(file)) => Ok(ServerTrust::OnFirstUse(KnownServers::new(file))),
        (None, None, None) => Ok(ServerTrust::DangerAnyServer(AcceptAnyServer)),
        _ => Err(PyValueError::new_err(
            "give one of server_fingerprint, ca_file and known_servers: each of them decides alone whom to trust",
        )),
    }
}
