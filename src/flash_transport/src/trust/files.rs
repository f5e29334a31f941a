//! Files that only their owner may read, written so that nobody ever sees half of one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Make `directory` and what is missing above it, for its owner only.
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

/// Replace a file, or make it, in one step.
pub(super) fn replace_private_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = partial_beside(path);
    let replaced = write_private_file(&partial, bytes).and_then(|()| fs::rename(&partial, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&partial);
    }
    replaced
}

/// A name in the same directory that nobody else uses.
pub(super) fn partial_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", unique_suffix()))
}

/// Hold the directory's lock, so that of two that change a file in it one comes after the other.
pub(super) fn lock_directory(directory: &Path) -> io::Result<File> {
    let directory = File::open(directory)?;
    #[cfg(unix)]
    // SAFETY: the descriptor is open for as long as `directory` lives.
    if unsafe { libc::flock(std::os::fd::AsRawFd::as_raw_fd(&directory), libc::LOCK_EX) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(directory)
}

/// Differs between processes and within one.
pub(super) fn unique_suffix() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}.{count}", std::process::id())
}

/// A directory of a test, gone afterwards.
#[cfg(test)]
pub(super) struct TestDirectory(pub PathBuf);

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
