//! Certificate authorities that a client trusts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error, RootCertStore};

use super::files;

/// The authorities of one PEM file.
#[derive(Debug, Clone)]
pub struct Authorities {
    path: PathBuf,
    roots: Arc<RootCertStore>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ca_file {} holds no certificates of authorities in PEM form: {reason}", path.display())]
pub struct AuthoritiesError {
    pub path: PathBuf,
    pub reason: String,
}

impl Authorities {
    pub fn load(path: &Path) -> Result<Self, AuthoritiesError> {
        let error = |reason: String| AuthoritiesError {
            path: path.to_owned(),
            reason,
        };
        let mut roots = RootCertStore::empty();
        let pem = files::read_regular_file(path).map_err(|problem| error(problem.to_string()))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|problem| error(problem.to_string()))?;
            roots
                .add(certificate)
                .map_err(|problem| error(problem.to_string()))?;
        }
        if roots.is_empty() {
            return Err(error("there is no certificate in it".to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            roots: Arc::new(roots),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        let builder = WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider);
        match builder.build() {
            Ok(verifier) => Ok(verifier),
            Err(problem) => Err(Error::General(problem.to_string())),
        }
    }
}

/// An error about a certificate, for users who do not know X.509.
pub(super) fn in_words(error: &Error) -> String {
    let Error::InvalidCertificate(error) = error else {
        return error.to_string();
    };
    match error {
        CertificateError::UnknownIssuer => "none of them has signed it".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another host; connect by a name or address that the certificate lists"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired; renew it, or set this machine's clock".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; set this machine's clock".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::TestDirectory;
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let directory = TestDirectory::new();
        std::fs::create_dir_all(&directory.0).unwrap();
        let path = directory.0.join("ca.pem");
        let absent = Authorities::load(&path).unwrap_err();
        assert!(absent.to_string().contains("ca.pem"), "{absent}");
        for text in [
            "",
            "no PEM",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Authorities::load(&path).unwrap_err();
            assert_eq!(error.path, path, "{text}");
        }
    }

    #[test]
    fn every_certificate_of_a_file_counts() {
        let directory = TestDirectory::new();
        std::fs::create_dir_all(&directory.0).unwrap();
        let path = directory.0.join("ca.pem");
        let pem: String = ["one", "two"]
            .map(|name| {
                rcgen::generate_simple_self_signed([name.to_owned()])
                    .unwrap()
                    .cert
                    .pem()
            })
            .concat();
        std::fs::write(&path, pem).unwrap();
        assert_eq!(Authorities::load(&path).unwrap().roots.len(), 2);
    }
}
