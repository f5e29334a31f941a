//! The server's certificate and private key: self-signed and kept in one file, or the operator's
//! own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::files;
use super::fingerprint::Fingerprint;

/// Certificate and key share a file, so that a crash cannot leave one without the other.
const FILE_NAME: &str = "flash_transport.pem";
/// The certificate's only name. Clients recognise a server by its fingerprint, not by a name.
const SUBJECT: &str = "openpi-flash";

#[derive(Debug)]
pub struct Identity {
    /// The server's own certificate first, then those up to the authority that signed it.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot make a certificate: {0}")]
    Generate(#[from] rcgen::Error),
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{} is no PEM file with a certificate and its private key ({reason}); \
         delete it to get a new certificate, which clients that pinned the old one will refuse",
        path.display()
    )]
    Broken { path: PathBuf, reason: String },
    #[error("cannot use the PEM file {}: {reason}", path.display())]
    NotOurs { path: PathBuf, reason: String },
}

impl Identity {
    /// A new identity that lives as long as this value.
    pub fn ephemeral() -> Result<Self, IdentityError> {
        let new = rcgen::generate_simple_self_signed([SUBJECT.to_owned()])?;
        Ok(Self {
            chain: vec![new.cert.der().clone()],
            key: PrivatePkcs8KeyDer::from(new.signing_key.serialize_der()).into(),
        })
    }

    /// A certificate with its chain, and its private key, from the operator's PEM files.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let broken = |path: &Path, reason: String| IdentityError::NotOurs {
            path: path.to_owned(),
            reason,
        };
        let chain_pem = read(certificate)?;
        let chain = CertificateDer::pem_slice_iter(&chain_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| broken(certificate, format!("certificate: {error}")))?;
        if chain.is_empty() {
            return Err(broken(certificate, "it holds no certificate".to_owned()));
        }
        let key_der = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|error| broken(key, format!("private key: {error}")))?;
        let identity = Self {
            chain,
            key: key_der,
        };
        check_pair(&identity).map_err(|error| {
            let reason = format!(
                "it is not the key of the certificate in {}: {error}",
                certificate.display()
            );
            broken(key, reason)
        })?;
        Ok(identity)
    }

    /// The identity kept in `directory`; the first call makes it.
    pub fn load_or_create(directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join(FILE_NAME);
        if let Some(identity) = load(&path)? {
            return Ok(identity);
        }
        create(directory, &path)?;
        // Another server may have been faster; then its certificate is used.
        load(&path)?.ok_or_else(|| IdentityError::File {
            action: "read",
            path,
            source: io::ErrorKind::NotFound.into(),
        })
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_certificate(self.certificate())
    }

    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    /// Never empty: the constructors check that the key belongs to the certificate.
    fn certificate(&self) -> &[u8] {
        self.chain.first().map_or(&[], |certificate| certificate)
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// A secret for `purpose` that a restarted server derives again.
    pub fn derived_secret(&self, purpose: &str) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(purpose.as_bytes());
        context.update(&[0]);
        context.update(self.key.secret_der());
        let mut secret = [0; 32];
        secret.copy_from_slice(context.finish().as_ref());
        secret
    }
}

fn load(path: &Path) -> Result<Option<Identity>, IdentityError> {
    let pem = match files::read_regular_file(path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error("read", path, error)),
    };
    let broken = |reason: String| IdentityError::Broken {
        path: path.to_owned(),
        reason,
    };
    let certificate = CertificateDer::from_pem_slice(&pem)
        .map_err(|error| broken(format!("certificate: {error}")))?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| broken(format!("private key: {error}")))?;
    let identity = Identity {
        chain: vec![certificate],
        key,
    };
    check_pair(&identity).map_err(|error| broken(error.to_string()))?;
    Ok(Some(identity))
}

/// Checks that the key belongs to the certificate.
fn check_pair(identity: &Identity) -> Result<(), rustls::Error> {
    let key = rustls::crypto::ring::sign::any_supported_type(&identity.key)?;
    rustls::sign::CertifiedKey::new(identity.chain(), key).keys_match()
}

/// Write a new identity, unless there is one already. The file appears complete.
fn create(directory: &Path, path: &Path) -> Result<(), IdentityError> {
    files::create_private_directory(directory)
        .map_err(|error| file_error("make", directory, error))?;
    let new = rcgen::generate_simple_self_signed([SUBJECT.to_owned()])?;
    let pem = new.cert.pem() + &new.signing_key.serialize_pem();

    let partial = files::partial_beside(path);
    let result = files::write_private_file(&partial, pem.as_bytes())
        .map_err(|error| file_error("write", &partial, error))
        .and_then(|()| match fs::hard_link(&partial, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                // Some mounted file systems have no hard links.
                fs::rename(&partial, path).map_err(|error| file_error("write", path, error))
            }
            _ => Ok(()),
        });
    let _ = fs::remove_file(&partial);
    result
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    files::read_regular_file(path).map_err(|error| file_error("read", path, error))
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> IdentityError {
    IdentityError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use files::TestDirectory;

    #[test]
    fn an_ephemeral_identity_is_new_each_time() {
        let one = Identity::ephemeral().unwrap();
        let other = Identity::ephemeral().unwrap();
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_ne!(one.derived_secret("x"), other.derived_secret("x"));
        check_pair(&one).unwrap();
    }

    #[test]
    fn a_kept_identity_survives_a_restart() {
        let directory = TestDirectory::new();
        let first = Identity::load_or_create(&directory.0).unwrap();
        let second = Identity::load_or_create(&directory.0).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert_eq!(first.derived_secret("x"), second.derived_secret("x"));
        assert_ne!(first.derived_secret("x"), first.derived_secret("y"));
    }

    #[test]
    fn servers_that_start_together_agree_on_one_identity() {
        let directory = TestDirectory::new();
        let fingerprints = std::thread::scope(|scope| {
            let load = || {
                Identity::load_or_create(&directory.0)
                    .unwrap()
                    .fingerprint()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap());
            joined.collect::<Vec<_>>()
        });
        assert!(fingerprints.iter().all(|other| *other == fingerprints[0]));
        let files = fs::read_dir(&directory.0).unwrap().count();
        assert_eq!(files, 1, "no partial file is left");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_the_key() {
        use std::os::unix::fs::PermissionsExt;
        let directory = TestDirectory::new();
        Identity::load_or_create(&directory.0).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.0), 0o700);
        assert_eq!(mode(&directory.0.join(FILE_NAME)), 0o600);
    }

    #[test]
    fn a_broken_file_is_named_and_kept() {
        let directory = TestDirectory::new();
        let kept = Identity::load_or_create(&directory.0).unwrap();
        let path = directory.0.join(FILE_NAME);
        let good = fs::read_to_string(&path).unwrap();
        let other = rcgen::generate_simple_self_signed([SUBJECT.to_owned()]).unwrap();
        let swapped_key = good.split("-----BEGIN PRIVATE").next().unwrap().to_owned()
            + &other.signing_key.serialize_pem();
        for broken in ["", "not PEM", &good[..good.len() / 2], &swapped_key] {
            fs::write(&path, broken).unwrap();
            let error = Identity::load_or_create(&directory.0).unwrap_err();
            assert!(error.to_string().contains(FILE_NAME), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), broken);
        }
        fs::write(&path, &good).unwrap();
        let again = Identity::load_or_create(&directory.0).unwrap();
        assert_eq!(again.fingerprint(), kept.fingerprint());
    }

    #[test]
    fn a_certificate_that_somebody_brings_is_used_with_its_chain() {
        let directory = TestDirectory::new();
        fs::create_dir_all(&directory.0).unwrap();
        let [own, other] = ["own", "other"]
            .map(|name| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap());
        let (certificate, key) = (directory.0.join("chain.pem"), directory.0.join("key.pem"));
        fs::write(&certificate, own.cert.pem() + &other.cert.pem()).unwrap();
        fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let identity = Identity::from_files(&certificate, &key).unwrap();
        let expected = [own.cert.der().clone(), other.cert.der().clone()];
        assert_eq!(identity.chain(), expected);
        assert_eq!(
            identity.fingerprint(),
            Fingerprint::of_certificate(own.cert.der())
        );

        fs::write(&key, other.signing_key.serialize_pem()).unwrap();
        let error = Identity::from_files(&certificate, &key).unwrap_err();
        assert!(
            error.to_string().contains("key.pem: it is not the key"),
            "{error}"
        );
        fs::write(&certificate, "").unwrap();
        let error = Identity::from_files(&certificate, &key).unwrap_err();
        assert!(
            error.to_string().contains("chain.pem: it holds no"),
            "{error}"
        );
        fs::remove_file(&certificate).unwrap();
        let error = Identity::from_files(&certificate, &key).unwrap_err();
        assert!(error.to_string().contains("cannot read"), "{error}");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = TestDirectory::new();
        fs::create_dir_all(file.0.parent().unwrap()).unwrap();
        fs::write(&file.0, b"").unwrap();
        let error = Identity::load_or_create(&file.0.join("inside")).unwrap_err();
        assert!(error.to_string().contains("inside"), "{error}");
    }
}
