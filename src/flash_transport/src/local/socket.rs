//! The system calls of a stream socket.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use socket2::SockRef;

/// Bytes that the kernel may queue for the peer. It grants at most `net.core.wmem_max`; a larger
/// message waits for its reader.
const SEND_BUFFER: usize = 4 << 20;

/// Most parts of one call.
pub(super) const PARTS: usize = 64;
/// Return at once instead of waiting.
pub(super) const NO_WAIT: i32 = libc::MSG_DONTWAIT;
/// Return when everything has arrived, or after the socket's timeout.
pub(super) const WAIT_FOR_ALL: i32 = libc::MSG_WAITALL;

pub(super) fn set_up(stream: &UnixStream) {
    // If it fails, a smaller buffer is only slower.
    let _ = SockRef::from(stream).set_send_buffer_size(SEND_BUFFER);
}

/// Append up to `most` bytes to `bytes`, which has the capacity. 0 means that the peer has closed.
pub(super) fn receive(
    stream: &UnixStream,
    bytes: &mut Vec<u8>,
    most: usize,
    flags: i32,
) -> io::Result<usize> {
    let room = bytes.spare_capacity_mut();
    let most = most.min(room.len());
    let got = receive_into(stream, &mut room[..most], flags)?;
    // SAFETY: the kernel has just written `got` bytes at the end of `bytes`, within its capacity.
    unsafe { bytes.set_len(bytes.len() + got) };
    Ok(got)
}

pub(super) fn receive_into(
    stream: &UnixStream,
    room: &mut [MaybeUninit<u8>],
    flags: i32,
) -> io::Result<usize> {
    again(|| SockRef::from(stream).recv_with_flags(room, flags))
}

/// Send what the kernel accepts of the parts.
pub(super) fn send(stream: &UnixStream, parts: &[IoSlice<'_>], flags: i32) -> io::Result<usize> {
    // A peer that is gone causes an error, not a signal that ends the program.
    again(|| SockRef::from(stream).send_vectored_with_flags(parts, flags | libc::MSG_NOSIGNAL))
}

/// Wait until there is something to read or, with `to_send`, room to send; false after `until`.
pub(super) fn wait(stream: &UnixStream, to_send: bool, until: Instant) -> io::Result<bool> {
    let events = libc::POLLIN | if to_send { libc::POLLOUT } else { 0 };
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up, so that the caller does not wait again in a busy loop.
        let left = left.as_micros().div_ceil(1000);
        let mut watched = libc::pollfd {
            fd: stream.as_raw_fd(),
            events,
            revents: 0,
        };
        // SAFETY: the pointer is to one `pollfd`, which lives until the call returns.
        match unsafe { libc::poll(&mut watched, 1, i32::try_from(left).unwrap_or(i32::MAX)) } {
            0 if Instant::now() < until => {}
            0 => return Ok(false),
            1 => return Ok(true),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A process of this computer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Process {
    pub pid: i32,
    pub uid: u32,
}

/// The process at the other end, if the kernel reports it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn peer_process(stream: &UnixStream) -> Option<Process> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut size = std::mem::size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes to `peer`, which has that size.
    let failed = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            std::ptr::from_mut(&mut peer).cast(),
            &mut size,
        )
    };
    (failed == 0).then_some(Process {
        pid: peer.pid,
        uid: peer.uid,
    })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn peer_process(_stream: &UnixStream) -> Option<Process> {
    None
}
