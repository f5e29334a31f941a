//! What a client believes about the server's certificate.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls13_signature, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::Fingerprint;

/// Which servers a client talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerTrust {
    /// Only the server with this certificate.
    Pinned(Fingerprint),
    /// Any server: the link is encrypted, but whoever is in between can play the server and move the robot.
    DangerAnyServer(danger::AcceptAnyServer),
}

/// Trust that must be asked for by a name that says what it is.
pub mod danger {
    /// Made only by somebody who accepts that the server is not authenticated.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct AcceptAnyServer;
}

/// What the handshake found out about the server, for a better error than TLS has.
#[derive(Debug, Default)]
pub struct Verdict {
    refused: Mutex<Option<Fingerprint>>,
}

impl Verdict {
    /// The fingerprint of the certificate that was refused.
    pub fn refused(&self) -> Option<Fingerprint> {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerTrust {
    pub(crate) fn verifier(
        self,
        provider: Arc<CryptoProvider>,
        verdict: Arc<Verdict>,
    ) -> Arc<dyn ServerCertVerifier> {
        Arc::new(Verifier {
            trust: self,
            provider,
            verdict,
        })
    }
}

#[derive(Debug)]
struct Verifier {
    trust: ServerTrust,
    provider: Arc<CryptoProvider>,
    verdict: Arc<Verdict>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let got = Fingerprint::of_certificate(end_entity);
        match self.trust {
            ServerTrust::Pinned(expected) if got != expected => {
                let refused = &self.verdict.refused;
                *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(got);
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            ServerTrust::Pinned(_) | ServerTrust::DangerAnyServer(_) => {
                Ok(ServerCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("QUIC has TLS 1.3 only".into()))
    }

    /// That the server holds the certificate's private key is checked in every case.
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
