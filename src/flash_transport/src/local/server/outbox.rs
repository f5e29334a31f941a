//! Answers to one client, in whole frames; sending does not block the policy's thread.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::local::frame::Header;
use crate::local::socket::{self, NO_WAIT};

/// Stack of the thread below and others that do little.
pub(super) const STACK_BYTES: usize = 256 << 10;

/// The thread that brings an answer sends it. What a slow reader does not accept is queued, and
/// sent by a thread that ends when the queue is empty.
pub(super) struct Outbox {
    stream: UnixStream,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    backlog: VecDeque<Vec<u8>>,
    is_writing: bool,
    is_broken: bool,
}

impl Outbox {
    /// The write timeout of `stream` limits how long a client may not read.
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Send one frame, after the earlier ones.
    pub fn send(self: &Arc<Self>, header: Header, message: &[u8]) {
        let head = header.bytes();
        let mut state = self.state();
        if state.is_broken {
            return;
        }
        let mut sent = 0;
        if !state.is_writing {
            let parts = [IoSlice::new(&head), IoSlice::new(message)];
            match socket::send(&self.stream, &parts, NO_WAIT) {
                Ok(count) => sent = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.give_up(state),
            }
            if sent == head.len() + message.len() {
                return;
            }
        }
        let (head_sent, message_sent) = (sent.min(head.len()), sent.saturating_sub(head.len()));
        let rest = [&head[head_sent..], &message[message_sent..]].concat();
        state.backlog.push_back(rest);
        if !state.is_writing {
            state.is_writing = true;
            let outbox = self.clone();
            let started = thread::Builder::new()
                .name("flash-local-writer".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || outbox.write_backlog());
            if started.is_err() {
                self.give_up(state);
            }
        }
    }

    /// Wait until fewer than `most` frames are queued; returns whether the connection still works.
    pub fn wait_for_room(&self, most: usize) -> bool {
        let mut state = self.state();
        while state.backlog.len() >= most && !state.is_broken {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        !state.is_broken
    }

    /// Wait until everything is sent, or the connection is broken; returns whether that is so.
    pub fn wait_until_empty(&self, until: Instant) -> bool {
        let mut state = self.state();
        while state.is_writing && !state.is_broken {
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn write_backlog(self: Arc<Self>) {
        loop {
            let mut state = self.state();
            let Some(frame) = state.backlog.front_mut().map(std::mem::take) else {
                state.is_writing = false;
                self.changed.notify_all();
                return;
            };
            drop(state);
            let mut rest = frame.as_slice();
            while !rest.is_empty() {
                // Fails after the stream's write timeout, too.
                match socket::send(&self.stream, &[IoSlice::new(rest)], 0) {
                    Ok(count) => rest = &rest[count..],
                    Err(_) => return self.give_up(self.state()),
                }
            }
            self.state().backlog.pop_front();
            self.changed.notify_all();
        }
    }

    /// Ends the connection: no frame can follow one that was cut short.
    fn give_up(&self, mut state: MutexGuard<'_, State>) {
        state.is_broken = true;
        state.is_writing = false;
        state.backlog.clear();
        let _ = self.stream.shutdown(Shutdown::Both);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
