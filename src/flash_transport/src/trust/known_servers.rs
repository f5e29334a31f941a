//! Trust on first use: a file with the fingerprint of each server that a client has met, like SSH's
//! `known_hosts`.
//!
//! One line per server: `host:port sha256:<64 hex digits>`. Empty lines and lines that start with
//! `#` are kept and ignored.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files;
use super::fingerprint::Fingerprint;

/// A file of known servers. It is read at each handshake, so that edits take effect at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownServers {
    path: PathBuf,
}

/// The entry of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub fingerprint: Fingerprint,
    /// From 1.
    pub line: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KnownServersError {
    #[error("cannot {action} the file of known servers {}: {reason}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        reason: String,
    },
    #[error("cannot write the file of known servers {}: another program holds the lock of {}", path.display(), directory.display())]
    Locked { path: PathBuf, directory: PathBuf },
    #[error("line {line} of {} must be \"host:port sha256:<64 hex digits>\", mend or delete it", path.display())]
    Malformed { path: PathBuf, line: usize },
}

impl KnownServers {
    /// The file need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entry of `server` (`host:port`), if there is one.
    pub fn look_up(&self, server: &str) -> Result<Option<Known>, KnownServersError> {
        self.find(&self.read()?, server)
    }

    /// Add the fingerprint of a server without an entry, and return its entry: another program's,
    /// if that was faster. `None` while another program holds the lock of the file's directory.
    pub fn try_add(
        &self,
        server: &str,
        fingerprint: Fingerprint,
    ) -> Result<Option<Known>, KnownServersError> {
        if let Some(known) = self.look_up(server)? {
            return Ok(Some(known));
        }
        let failed = |error| self.file_error("write", &error);
        let (path, directory) = self.place();
        files::create_private_directory(&directory).map_err(failed)?;
        let Some(_lock) = files::try_lock_directory(&directory).map_err(failed)? else {
            return Ok(None);
        };
        let mut text = self.read()?;
        if let Some(known) = self.find(&text, server)? {
            return Ok(Some(known));
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text += &format!("{} sha256:{fingerprint}\n", normal(server));
        files::replace_private_file(&path, text.as_bytes()).map_err(failed)?;
        let line = text.lines().count();
        Ok(Some(Known { fingerprint, line }))
    }

    /// The error for a client that waited for the lock in vain.
    pub fn locked(&self) -> KnownServersError {
        KnownServersError::Locked {
            path: self.path.clone(),
            directory: self.place().1,
        }
    }

    /// The file and its directory. Symbolic links are followed, and stay.
    fn place(&self) -> (PathBuf, PathBuf) {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        (path, directory)
    }

    fn read(&self) -> Result<String, KnownServersError> {
        let bytes = match files::read_regular_file(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(self.file_error("read", &error)),
        };
        String::from_utf8(bytes).map_err(|_| {
            let error = io::Error::other("it is not UTF-8 text");
            self.file_error("read", &error)
        })
    }

    fn find(&self, text: &str, server: &str) -> Result<Option<Known>, KnownServersError> {
        let server = normal(server);
        let mut found = None;
        for (index, content) in text.lines().enumerate() {
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let line = index + 1;
            // A malformed line might be the entry of this server.
            let malformed = || KnownServersError::Malformed {
                path: self.path.clone(),
                line,
            };
            let (name, fingerprint) = content
                .split_once(char::is_whitespace)
                .ok_or_else(malformed)?;
            let fingerprint = fingerprint.trim().parse().map_err(|_| malformed())?;
            if found.is_none() && normal(name) == server {
                found = Some(Known { fingerprint, line });
            }
        }
        Ok(found)
    }

    fn file_error(&self, action: &'static str, error: &io::Error) -> KnownServersError {
        KnownServersError::File {
            action,
            path: self.path.clone(),
            reason: error.to_string(),
        }
    }
}

/// Host names are case-insensitive.
fn normal(server: &str) -> String {
    server.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use files::TestDirectory;

    fn fingerprint(of: &str) -> Fingerprint {
        Fingerprint::of_certificate(of.as_bytes())
    }

    fn known_servers() -> (TestDirectory, KnownServers) {
        let directory = TestDirectory::new();
        let known = KnownServers::new(directory.0.join("known_servers"));
        (directory, known)
    }

    /// Repeats while another holds the lock, as a client does.
    fn add(known: &KnownServers, server: &str, fingerprint: Fingerprint) -> Known {
        loop {
            if let Some(known) = known.try_add(server, fingerprint).unwrap() {
                return known;
            }
            std::thread::yield_now();
        }
    }

    fn write(known: &KnownServers, text: &str) {
        fs::create_dir_all(known.path().parent().unwrap()).unwrap();
        fs::write(known.path(), text).unwrap();
    }

    #[test]
    fn what_was_added_is_known_and_nothing_else() {
        let (_directory, known) = known_servers();
        assert_eq!(known.look_up("gpu:5555"), Ok(None));
        add(&known, "gpu:5555", fingerprint("a"));
        let kept = add(&known, "[::1]:5555", fingerprint("b"));
        assert_eq!(kept.line, 2);
        let first = Known {
            fingerprint: fingerprint("a"),
            line: 1,
        };
        assert_eq!(known.look_up("GPU:5555"), Ok(Some(first)));
        assert_eq!(known.look_up("[::1]:5555"), Ok(Some(kept)));
        assert_eq!(known.look_up("gpu:5556"), Ok(None));
        assert_eq!(known.look_up("gp:5555"), Ok(None));
        assert_eq!(
            fs::read_to_string(known.path()).unwrap(),
            format!(
                "gpu:5555 sha256:{}\n[::1]:5555 sha256:{}\n",
                fingerprint("a"),
                fingerprint("b")
            )
        );
    }

    #[test]
    fn a_known_server_is_never_overwritten() {
        let (_directory, known) = known_servers();
        add(&known, "gpu:5555", fingerprint("a"));
        let kept = add(&known, "gpu:5555", fingerprint("b"));
        assert_eq!(kept.fingerprint, fingerprint("a"));
        assert_eq!(known.look_up("gpu:5555"), Ok(Some(kept)));
    }

    #[test]
    fn what_people_write_into_it_is_kept() {
        let (_directory, known) = known_servers();
        let text = format!(
            "# the lab\n\nlab:5555   SHA256:{}",
            fingerprint("a").to_string().to_uppercase()
        );
        write(&known, &text);
        let lab = known.look_up("lab:5555").unwrap().unwrap();
        assert_eq!((lab.fingerprint, lab.line), (fingerprint("a"), 3));
        add(&known, "gpu:5555", fingerprint("b"));
        let now = fs::read_to_string(known.path()).unwrap();
        assert!(now.starts_with(&format!("{text}\n")), "{now}");
        assert_eq!(known.look_up("gpu:5555").unwrap().unwrap().line, 4);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_and_trusts_nobody() {
        let (_directory, known) = known_servers();
        for broken in ["gpu:5555", "gpu:5555 sha256:abc", "gpu:5555 yes it is"] {
            write(&known, &format!("# first\n{broken}\n"));
            let error = known.look_up("other:1").unwrap_err();
            let malformed = KnownServersError::Malformed {
                path: known.path().to_owned(),
                line: 2,
            };
            assert_eq!(error, malformed, "{broken}");
            assert_eq!(known.try_add("other:1", fingerprint("a")), Err(malformed));
            assert!(fs::read_to_string(known.path()).unwrap().contains(broken));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_missing_file_is_not_replaced() {
        let (directory, known) = known_servers();
        let missing = directory.0.join("not mounted yet");
        fs::create_dir_all(&directory.0).unwrap();
        std::os::unix::fs::symlink(&missing, known.path()).unwrap();
        let error = known.try_add("gpu:5555", fingerprint("a")).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert_eq!(fs::read_link(known.path()).unwrap(), missing);
        fs::write(&missing, "").unwrap();
        add(&known, "gpu:5555", fingerprint("a"));
        assert_eq!(fs::read_to_string(&missing).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_read_or_written_is_named() {
        let (_directory, known) = known_servers();
        fs::create_dir_all(known.path()).unwrap();
        for error in [
            known.look_up("gpu:5555").unwrap_err(),
            known.try_add("gpu:5555", fingerprint("a")).unwrap_err(),
        ] {
            assert!(error.to_string().contains("known_servers"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_that_another_program_holds_is_named() {
        let (directory, known) = known_servers();
        fs::create_dir_all(&directory.0).unwrap();
        let _held = files::try_lock_directory(&directory.0).unwrap().unwrap();
        assert_eq!(known.try_add("gpu:5555", fingerprint("a")), Ok(None));
        let error = known.locked().to_string();
        let place = directory.0.display();
        assert!(
            error.contains(&format!("holds the lock of {place}")),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn it_is_for_its_owner_only_and_a_link_to_it_stays_one() {
        use std::os::unix::fs::{symlink, PermissionsExt};
        let (_directory, known) = known_servers();
        add(&known, "gpu:5555", fingerprint("a"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(known.path()), 0o600);
        assert_eq!(mode(known.path().parent().unwrap()), 0o700);

        let link = known.path().with_file_name("link");
        symlink(known.path(), &link).unwrap();
        let linked = KnownServers::new(&link);
        add(&linked, "lab:5555", fingerprint("b"));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(known.look_up("lab:5555").unwrap().is_some());
    }

    #[test]
    fn clients_that_add_at_the_same_time_lose_nothing() {
        let (_directory, known) = known_servers();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let known = &known;
                scope.spawn(move || {
                    let server = format!("gpu:{number}");
                    add(known, &server, fingerprint(&server));
                });
            }
        });
        for number in 0..8 {
            let server = format!("gpu:{number}");
            let kept = known.look_up(&server).unwrap().unwrap();
            assert_eq!(kept.fingerprint, fingerprint(&server));
        }
        let files = fs::read_dir(known.path().parent().unwrap()).unwrap();
        assert_eq!(files.count(), 1, "no partial file is left");
    }
}
