//! A TUN device: IP packets in and out of the kernel.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

pub struct Tun(File);

impl Tun {
    /// Make the device `name`, which is gone when this is dropped.
    pub fn open(name: &str) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        // SAFETY: all bytes zero are a valid `ifreq`.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays zero and ends the name.
        if name.len() >= request.ifr_name.len() {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "the name is too long",
            ));
        }
        for (to, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = byte as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes the one `ifreq` that it is given, which outlives the call.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) };
        match result {
            0 => Ok(Self(file)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The next packet's size, or `None` when there is none now.
    pub fn receive(&self, packet: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.0).read(packet) {
            Ok(size) => Ok(Some(size)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            // The device is not up yet, or not any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A packet that the kernel does not take is lost, as on any path.
    pub fn send(&self, packet: &[u8]) {
        let _ = (&self.0).write(packet);
    }
}

/// Wait until a device has a packet, at most `time`.
pub fn wait(devices: &[Tun; 2], time: Option<Duration>) -> io::Result<()> {
    let mut ready = [0, 1].map(|index| libc::pollfd {
        fd: devices[index].0.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    let time = time.map(|time| libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: time.subsec_nanos().into(),
    });
    let time = time
        .as_ref()
        .map_or(std::ptr::null(), |time| time as *const _);
    // SAFETY: `ready` and `time` outlive the call, and the count is that of `ready`.
    let result = unsafe { libc::ppoll(ready.as_mut_ptr(), 2, time, std::ptr::null()) };
    match result {
        -1 if io::Error::last_os_error().kind() != ErrorKind::Interrupted => {
            Err(io::Error::last_os_error())
        }
        _ => Ok(()),
    }
}
