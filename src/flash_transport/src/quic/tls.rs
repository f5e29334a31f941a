//! TLS 1.3 for both ends.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::crypto::ring::default_provider;
use rustls::server::ServerSessionMemoryCache;
use rustls::version::TLS13;

use crate::trust::{Identity, ServerTrust, Verdict};

use crate::link::wire::ALPN;

/// Sessions that clients may resume, two for each connection. Older ones are dropped; their clients
/// need one more round trip.
const SESSIONS: usize = 1024;

#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS: {0}")]
pub struct TlsError(String);

pub(crate) fn client(
    trust: &ServerTrust,
    server: &str,
    verdict: Arc<Verdict>,
) -> Result<Arc<QuicClientConfig>, TlsError> {
    let provider = Arc::new(default_provider());
    let verifier = trust
        .verifier(server, provider.clone(), verdict)
        .map_err(text)?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(text)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    // By default, sessions are kept in memory as long as this configuration.
    config.enable_early_data = true;
    Ok(Arc::new(QuicClientConfig::try_from(config).map_err(text)?))
}

pub(crate) fn server(identity: &Identity) -> Result<Arc<QuicServerConfig>, TlsError> {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(text)?
        .with_no_client_auth()
        .with_single_cert(identity.chain(), identity.key())
        .map_err(text)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // The store removes a session when it is resumed, so a replayed first flight resumes nothing
    // (RFC 8446, section 8.1).
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    // Only 0 and this value are allowed in QUIC (RFC 9001, section 4.6.1).
    config.max_early_data_size = u32::MAX;
    Ok(Arc::new(QuicServerConfig::try_from(config).map_err(text)?))
}

fn text(error: impl std::fmt::Display) -> TlsError {
    TlsError(error.to_string())
}
