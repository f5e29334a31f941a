//! The server's self-signed certificate and its private key, kept in one file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Fingerprint;

/// Certificate and key share a file, so that no crash leaves one without the other.
const FILE_NAME: &str = "flash_transport.pem";
/// The certificate's only name. Clients know a server by its fingerprint, not by a name.
const SUBJECT: &str = "openpi-flash";

#[derive(Debug)]
pub struct Identity {
    certificate: CertificateDer<'static>,
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
}

impl Identity {
    /// A new identity that lives as long as this value.
    pub fn ephemeral() -> Result<Self, IdentityError> {
        let new = rcgen::generate_simple_self_signed([SUBJECT.to_owned()])?;
        Ok(Self {
            certificate: new.cert.der().clone(),
            key: PrivatePkcs8KeyDer::from(new.signing_key.serialize_der()).into(),
        })
    }

    /// The identity that is kept in `directory`, made on the first call.
    pub fn load_or_create(directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join(FILE_NAME);
        if let Some(identity) = load(&path)? {
            return Ok(identity);
        }
        create(directory, &path)?;
        // Another server may have been faster; then its certificate is the one.
        load(&path)?.ok_or_else(|| IdentityError::File {
            action: "read",
            path,
            source: io::ErrorKind::NotFound.into(),
        })
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_certificate(&self.certificate)
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// A secret that a restarted server derives again, one per `purpose`.
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
    let pem = match fs::read(path) {
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
    let identity = Identity { certificate, key };
    check_pair(&identity).map_err(|error| broken(error.to_string()))?;
    Ok(Some(identity))
}

/// That the key belongs to the certificate.
fn check_pair(identity: &Identity) -> Result<(), rustls::Error> {
    let key = rustls::crypto::ring::sign::any_supported_type(&identity.key)?;
    rustls::sign::CertifiedKey::new(vec![identity.certificate()], key).keys_match()
}

/// Write a new identity, unless there is one by now. Nobody ever sees half a file.
fn create(directory: &Path, path: &Path) -> Result<(), IdentityError> {
    create_private_directory(directory).map_err(|error| file_error("make", directory, error))?;
    let new = rcgen::generate_simple_self_signed([SUBJECT.to_owned()])?;
    let pem = new.cert.pem() + &new.signing_key.serialize_pem();

    let partial = directory.join(format!(".{FILE_NAME}.{}", unique_suffix()));
    let result = write_private_file(&partial, pem.as_bytes())
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

fn create_private_directory(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn write_private_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file: File = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Differs between processes and between servers of one process.
fn unique_suffix() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}.{count}", std::process::id())
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

    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            let name = format!("flash_transport-test-{}", unique_suffix());
            Self(std::env::temp_dir().join(name).join("certificates"))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.parent().unwrap());
        }
    }

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
        let directory = Directory::new();
        let first = Identity::load_or_create(&directory.0).unwrap();
        let second = Identity::load_or_create(&directory.0).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert_eq!(first.derived_secret("x"), second.derived_secret("x"));
        assert_ne!(first.derived_secret("x"), first.derived_secret("y"));
    }

    #[test]
    fn servers_that_start_together_agree_on_one_identity() {
        let directory = Directory::new();
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
        let directory = Directory::new();
        Identity::load_or_create(&directory.0).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.0), 0o700);
        assert_eq!(mode(&directory.0.join(FILE_NAME)), 0o600);
    }

    #[test]
    fn a_broken_file_is_named_and_kept() {
        let directory = Directory::new();
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
    fn a_directory_that_cannot_be_made_is_named() {
        let file = Directory::new();
        fs::create_dir_all(file.0.parent().unwrap()).unwrap();
        fs::write(&file.0, b"").unwrap();
        let error = Identity::load_or_create(&file.0.join("inside")).unwrap_err();
        assert!(error.to_string().contains("certificates"), "{error}");
    }
}
