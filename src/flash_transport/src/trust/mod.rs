//! Identities: the server's certificate, its fingerprint, and how a client verifies them.

mod authority;
pub(crate) mod files;
mod fingerprint;
mod identity;
mod known_servers;
mod verify;

// The public interface is:
pub use authority::{Authorities, AuthoritiesError};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use identity::{Identity, IdentityError};
pub use known_servers::{Known, KnownServers, KnownServersError};
pub use verify::{danger, Refusal, ServerTrust, Verdict};
