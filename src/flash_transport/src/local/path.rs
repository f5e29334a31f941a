//! The socket's file: its permissions, the replacement of a stale one, and its removal.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// The name of a host that is a unix socket: `unix:/run/openpi-flash.sock`.
pub const SCHEME: &str = "unix:";
/// Most bytes that the kernel accepts, the closing zero included.
const LONGEST_PATH: usize = 107;
/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 256;

#[derive(Debug, thiserror::Error)]
pub enum PathError {
    #[error("socket path {path:?} has {got} bytes, the system takes at most {LONGEST_PATH}")]
    TooLong { path: PathBuf, got: usize },
    #[error(
        "cannot listen on {path:?}: another server listens there; stop it or choose another path"
    )]
    Taken { path: PathBuf },
    #[error("cannot listen on {path:?}: there is no such directory, make it first")]
    NoDirectory { path: PathBuf },
    #[error("cannot listen on {path:?}: a file that is no socket is in the way")]
    NoSocket { path: PathBuf },
    #[error("cannot listen on {path:?}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// A listening socket and its file, which is removed with it.
#[derive(Debug)]
pub struct Listener {
    pub listener: UnixListener,
    path: PathBuf,
    /// Device and inode, so that only our own file is removed.
    file: (u64, u64),
}

impl Listener {
    /// Listen on `path` with the permissions `mode`. The stale file of a killed server is replaced.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, PathError> {
        let got = path.as_os_str().len();
        if got > LONGEST_PATH {
            return Err(PathError::TooLong {
                path: path.into(),
                got,
            });
        }
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => PathError::Taken { path: path.into() },
            io::ErrorKind::NotFound => PathError::NoDirectory { path: path.into() },
            _ => PathError::Io {
                path: path.into(),
                source,
            },
        };
        remove_stale(path)?;
        let listener = listen(path, mode).map_err(failed)?;
        let file = path.symlink_metadata().map_err(failed)?;
        Ok(Self {
            listener,
            path: path.into(),
            file: (file.dev(), file.ino()),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Remove the file, unless another program has replaced it.
    pub fn unlink(&self) {
        if let Ok(file) = self.path.symlink_metadata() {
            if (file.dev(), file.ino()) == self.file {
                let _ = std::fs::remove_file(&self.path);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.unlink();
    }
}

fn remove_stale(path: &Path) -> Result<(), PathError> {
    let failed = |source| PathError::Io {
        path: path.into(),
        source,
    };
    let file = match path.symlink_metadata() {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !file.file_type().is_socket() {
        return Err(PathError::NoSocket { path: path.into() });
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A server listens there, or we may not access the file.
        _ => Err(PathError::Taken { path: path.into() }),
    }
}

fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // On Linux the file gets the socket's mode, minus the umask: it is at no moment open to others.
    // SAFETY: changes the mode of an open descriptor.
    if unsafe { libc::fchmod(socket.as_raw_fd(), mode as libc::mode_t) } != 0 {
        return Err(io::Error::last_os_error());
    }
    socket.bind(&SockAddr::unix(path)?)?;
    // Permissions that the umask removed, and all of them on other systems.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("flash-{}-{name}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    #[test]
    fn only_its_user_may_reach_a_socket() {
        let path = fresh("mode");
        let listener = Listener::bind(&path, 0o600).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn the_file_of_a_killed_server_is_replaced() {
        let path = fresh("stale");
        drop(listen(&path, 0o600).unwrap());
        assert!(path.exists());
        let _listener = Listener::bind(&path, 0o600).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_living_server_is_not_disturbed() {
        let path = fresh("taken");
        let _first = Listener::bind(&path, 0o600).unwrap();
        let error = Listener::bind(&path, 0o600).unwrap_err();
        assert!(matches!(error, PathError::Taken { .. }), "{error}");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_named_with_what_to_do() {
        let path = fresh("nowhere").join("policy.sock");
        let error = Listener::bind(&path, 0o600).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {path:?}: there is no such directory, make it first")
        );
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_removed() {
        let path = fresh("file");
        std::fs::write(&path, "precious").unwrap();
        let error = Listener::bind(&path, 0o600).unwrap_err();
        assert!(matches!(error, PathError::NoSocket { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_file_of_a_successor_is_left_alone() {
        let path = fresh("successor");
        let first = Listener::bind(&path, 0o600).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _second = Listener::bind(&path, 0o600).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_path_that_is_too_long_is_named_with_its_length() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
        let error = Listener::bind(&path, 0o600).unwrap_err().to_string();
        assert!(
            error.contains("205 bytes") && error.contains("107"),
            "{error}"
        );
    }
}
