//! Who is who: the server's certificate, its fingerprint, and what a client believes.

mod fingerprint;
mod identity;
mod verify;

// The public interface is:
pub use fingerprint::{Fingerprint, FingerprintError};
pub use identity::{Identity, IdentityError};
pub use verify::{danger, ServerTrust, Verdict};
