//! How a client verifies the server's certificate.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls13_signature, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::authority::{in_words, Authorities};
use super::fingerprint::Fingerprint;
use super::known_servers::{Known, KnownServers, KnownServersError};

/// Which servers a client trusts.
#[derive(Debug, Clone)]
pub enum ServerTrust {
    /// Only the server with this certificate.
    Pinned(Fingerprint),
    /// A new server is accepted and remembered; from then on only the same certificate is.
    OnFirstUse(KnownServers),
    /// A server whose certificate one of these authorities has signed for the requested host.
    Authorities(Authorities),
    /// Any server: the link is encrypted, but an attacker on the network path could impersonate the server and move the robot.
    DangerAnyServer(danger::AcceptAnyServer),
}

/// Trust options that disable a check and say so in their names.
pub mod danger {
    /// Made only by code that accepts an unauthenticated server.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct AcceptAnyServer;
}

/// Why a server's certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("has fingerprint {got}, not the pinned {expected}; if the server's certificate was changed on purpose, pin the new one")]
    NotPinned {
        expected: Fingerprint,
        got: Fingerprint,
    },
    #[error(
        "has fingerprint {got}, but line {line} of {} knows it by {expected}; an attacker may be impersonating the server. If its certificate \
         was changed on purpose, delete that line and connect again",
        file.display()
    )]
    Changed {
        file: PathBuf,
        line: usize,
        expected: Fingerprint,
        got: Fingerprint,
    },
    #[error("is not accepted by the authorities of {}: {reason}", file.display())]
    NotAuthorised { file: PathBuf, reason: String },
    #[error("cannot be judged: {0}")]
    NotJudged(#[from] KnownServersError),
}

impl Refusal {
    fn unless_same(known: &KnownServers, entry: Known, got: Fingerprint) -> Result<(), Self> {
        match entry.fingerprint == got {
            true => Ok(()),
            false => Err(Self::Changed {
                file: known.path().to_owned(),
                line: entry.line,
                expected: entry.fingerprint,
                got,
            }),
        }
    }
}

/// The verifier's refusal, kept for a better error than TLS gives.
#[derive(Debug, Default)]
pub struct Verdict {
    refusal: Mutex<Option<Refusal>>,
}

impl Verdict {
    /// Forget the last handshake.
    pub fn forget(&self) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why the certificate was refused, if it was.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn refuse(&self, refusal: Refusal) -> Error {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
        CertificateError::ApplicationVerificationFailure.into()
    }
}

impl ServerTrust {
    /// Remember the certificate of a server that has proved in the handshake that it owns the key,
    /// if the trust is on first use. `false` while another program holds the lock of the file.
    pub(crate) fn try_remember(&self, server: &str, got: Fingerprint) -> Result<bool, Refusal> {
        let ServerTrust::OnFirstUse(known) = self else {
            return Ok(true);
        };
        match known.try_add(server, got)? {
            None => Ok(false),
            // Another client may have added another certificate meanwhile.
            Some(entry) => Refusal::unless_same(known, entry, got).map(|()| true),
        }
    }

    /// The error for a lock that could not be had in time.
    pub(crate) fn locked(&self) -> Option<Refusal> {
        match self {
            ServerTrust::OnFirstUse(known) => Some(known.locked().into()),
            _ => None,
        }
    }

    /// The server name to request in the handshake. Only authorities check it; the other kinds
    /// verify the certificate itself.
    pub(crate) fn server_name<'a>(&self, host: &'a str) -> &'a str {
        match self {
            ServerTrust::Authorities(_) => host,
            _ => "openpi-flash",
        }
    }

    /// Verifies the certificate of `server`, which is `host:port` as the user named it.
    pub(crate) fn verifier(
        &self,
        server: &str,
        provider: Arc<CryptoProvider>,
        verdict: Arc<Verdict>,
    ) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        let chain = match self {
            ServerTrust::Authorities(authorities) => Some(authorities.verifier(provider.clone())?),
            _ => None,
        };
        Ok(Arc::new(Verifier {
            trust: self.clone(),
            server: server.to_owned(),
            chain,
            provider,
            verdict,
        }))
    }
}

#[derive(Debug)]
struct Verifier {
    trust: ServerTrust,
    server: String,
    /// Verifies the chain up to an authority; `None` for other kinds of trust.
    chain: Option<Arc<dyn ServerCertVerifier>>,
    provider: Arc<CryptoProvider>,
    verdict: Arc<Verdict>,
}

impl Verifier {
    fn judge(&self, got: Fingerprint) -> Result<(), Refusal> {
        match &self.trust {
            ServerTrust::Pinned(expected) if got != *expected => Err(Refusal::NotPinned {
                expected: *expected,
                got,
            }),
            ServerTrust::OnFirstUse(known) => match known.look_up(&self.server)? {
                Some(entry) => Refusal::unless_same(known, entry, got),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let (Some(chain), ServerTrust::Authorities(authorities)) = (&self.chain, &self.trust) {
            return chain
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| {
                    self.verdict.refuse(Refusal::NotAuthorised {
                        file: authorities.path().to_owned(),
                        reason: in_words(&error),
                    })
                });
        }
        self.judge(Fingerprint::of_certificate(end_entity))
            .map(|()| ServerCertVerified::assertion())
            .map_err(|refusal| self.verdict.refuse(refusal))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("QUIC has TLS 1.3 only".into()))
    }

    /// Every kind of trust checks that the server owns the certificate's private key.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
