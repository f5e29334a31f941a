//! Files that only their owner may read, written atomically.

use std::fs::{self, DirBuilder, File, FileType, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Make `directory` and its missing parents, readable for the owner only.
pub(super) fn create_private_directory(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Write a new file.
pub(super) fn write_private_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file: File = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replace a file, or make it, in one step. A symbolic link is not replaced: whoever made it meant
/// another place.
pub(super) fn replace_private_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        return Err(io::Error::other(
            "it is a symbolic link to a file that does not exist",
        ));
    }
    let partial = partial_beside(path);
    let replaced = write_private_file(&partial, bytes).and_then(|()| fs::rename(&partial, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&partial);
    }
    replaced
}

/// An unused name in the same directory.
pub(super) fn partial_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", unique_suffix()))
}

/// Most bytes of a file that is read whole. Certificate chains and lists of servers are far
/// smaller.
const MOST_BYTES: u64 = 1 << 20;

/// Read a regular file. Anything else is an error at once: a fifo would wait for its writer, a
/// device might never end.
pub(crate) fn read_regular_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    options.read(true);
    // Without this flag, opening a fifo waits for a writer.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let file = options.open(path).map_err(|error| {
        // A socket cannot even be opened.
        let found = fs::metadata(path).map(|found| kind(found.file_type()));
        match found {
            Ok(Some(kind)) => not_a_file(kind),
            _ => error,
        }
    })?;
    if let Some(kind) = kind(file.metadata()?.file_type()) {
        return Err(not_a_file(kind));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other(format!(
            "it holds more than {MOST_BYTES} bytes, which none of its kind does"
        )));
    }
    Ok(bytes)
}

fn not_a_file(kind: &str) -> io::Error {
    io::Error::other(format!("it is {kind}, expected a file"))
}

/// The kind of a file that is not regular.
fn kind(found: FileType) -> Option<&'static str> {
    if found.is_file() {
        return None;
    }
    if found.is_dir() {
        return Some("a directory");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if found.is_fifo() {
            return Some("a fifo");
        }
        if found.is_socket() {
            return Some("a socket");
        }
        if found.is_block_device() || found.is_char_device() {
            return Some("a device");
        }
    }
    Some("something else")
}

/// Lock the directory against other writers; `None` while another program holds the lock.
pub(super) fn try_lock_directory(directory: &Path) -> io::Result<Option<File>> {
    let directory = File::open(directory)?;
    #[cfg(unix)]
    {
        let operation = libc::LOCK_EX | libc::LOCK_NB;
        // SAFETY: the descriptor is open for as long as `directory` lives.
        if unsafe { libc::flock(std::os::fd::AsRawFd::as_raw_fd(&directory), operation) } != 0 {
            return match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                error => Err(error),
            };
        }
    }
    Ok(Some(directory))
}

/// Unique between processes and within one.
pub(super) fn unique_suffix() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}.{count}", std::process::id())
}

/// A temporary directory of a test.
#[cfg(test)]
pub(crate) struct TestDirectory(pub PathBuf);

#[cfg(test)]
impl TestDirectory {
    pub fn new() -> Self {
        let name = format!("flash_transport-test-{}", unique_suffix());
        Self(std::env::temp_dir().join(name).join("inside"))
    }
}

#[cfg(test)]
impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = self.0.parent().map(fs::remove_dir_all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> TestDirectory {
        let directory = TestDirectory::new();
        fs::create_dir_all(&directory.0).unwrap();
        directory
    }

    #[test]
    fn a_file_is_read_whole_and_one_without_an_end_is_not() {
        let directory = fresh();
        let path = directory.0.join("file");
        fs::write(&path, vec![7; 1 << 20]).unwrap();
        assert_eq!(read_regular_file(&path).unwrap().len(), 1 << 20);
        fs::write(&path, vec![7; (1 << 20) + 1]).unwrap();
        let error = read_regular_file(&path).unwrap_err().to_string();
        assert!(error.contains("more than 1048576 bytes"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_named_at_once() {
        use std::os::unix::ffi::OsStrExt;
        let directory = fresh();
        let at = |name: &str| directory.0.join(name);
        let fifo = std::ffi::CString::new(at("fifo").as_os_str().as_bytes()).unwrap();
        // SAFETY: the path is a C string that lives across the call.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for kind in ["fifo", "device", "directory", "socket"] {
            let error = read_regular_file(&at(kind)).unwrap_err().to_string();
            assert_eq!(error, format!("it is a {kind}, expected a file"));
        }
        let absent = read_regular_file(&at("absent")).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_that_another_holds_is_not_waited_for() {
        let directory = fresh();
        let held = try_lock_directory(&directory.0).unwrap();
        assert!(held.is_some());
        assert!(try_lock_directory(&directory.0).unwrap().is_none());
        drop(held);
        assert!(try_lock_directory(&directory.0).unwrap().is_some());
    }
}
