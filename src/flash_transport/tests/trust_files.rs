//! A file of known servers that is no file, or whose directory somebody else has locked: an error in time that names it.
#![cfg(unix)]
// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flash_transport::quic::client::{Client, ClientConfig, ClientError};
use flash_transport::quic::server::Server;
use flash_transport::trust::{KnownServers, ServerTrust};
use support::{fresh_path, server_config, LONG};

/// A directory that is gone after its test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = fresh_path().with_extension("trust");
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("known_servers")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn client(server: &Server, known_servers: &Path, connect_timeout: Duration) -> Client {
    let trust = ServerTrust::OnFirstUse(KnownServers::new(known_servers));
    let mut config = ClientConfig::new("127.0.0.1", server.address().port(), trust);
    config.connect_timeout = connect_timeout;
    Client::new(config).unwrap()
}

fn refusal(client: &Client) -> String {
    let error = client.connect(LONG).wait_long().unwrap_err();
    assert!(
        matches!(error, ClientError::UntrustedServer { .. }),
        "{error}"
    );
    error.to_string()
}

fn lock(directory: &Path) -> File {
    let directory = File::open(directory).unwrap();
    // SAFETY: the descriptor is open across the call.
    assert_eq!(
        unsafe { libc::flock(directory.as_raw_fd(), libc::LOCK_EX) },
        0
    );
    directory
}

#[test]
fn a_fifo_a_device_and_a_directory_are_named_at_once() {
    let server = Server::bind(server_config()).unwrap();
    for kind in ["a fifo", "a device", "a directory"] {
        let directory = Directory::new();
        let path = directory.file();
        match kind {
            "a fifo" => {
                let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
                // SAFETY: the path is a C string that lives across the call.
                assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
            }
            "a device" => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
            _ => fs::create_dir(&path).unwrap(),
        }
        let error = refusal(&client(&server, &path, LONG));
        let named = format!("{}: it is {kind}, expected a file", path.display());
        assert!(error.contains(&named), "{error}");
    }
}

#[test]
fn a_lock_that_stays_is_an_error_within_the_time_to_connect() {
    let server = Server::bind(server_config()).unwrap();
    let directory = Directory::new();
    let _held = lock(&directory.0);
    let error = refusal(&client(
        &server,
        &directory.file(),
        Duration::from_millis(500),
    ));
    let named = format!(
        "another program holds the lock of {}",
        directory.0.display()
    );
    assert!(error.contains(&named), "{error}");
}

#[test]
fn a_lock_that_is_given_back_is_waited_for() {
    let server = Server::bind(server_config()).unwrap();
    let directory = Directory::new();
    let held = lock(&directory.0);
    let client = client(&server, &directory.file(), LONG);
    let connecting = client.connect(LONG);
    // Long enough that the client is at the lock; were it not there yet, it would find the lock free.
    assert!(connecting.wait(Duration::from_millis(100)).is_none());
    drop(held);
    connecting.wait_long().unwrap();
    let known = fs::read_to_string(directory.file()).unwrap();
    assert!(known.contains(&server.fingerprint().to_string()), "{known}");
}

#[test]
fn a_client_that_waits_for_a_lock_closes_at_once() {
    let server = Server::bind(server_config()).unwrap();
    let directory = Directory::new();
    let _held = lock(&directory.0);
    let client = client(&server, &directory.file(), LONG);
    let connecting = client.connect(LONG);
    support::eventually(|| server.counters().connections_accepted.value() == 1);
    let started = Instant::now();
    client.close();
    assert!(connecting.wait_long().is_err());
    // Half of the time to connect is what the lock is waited for otherwise.
    assert!(started.elapsed() < LONG / 4);
}
