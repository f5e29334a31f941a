"""Runs one command and sees to it that nothing of it is left behind, whatever happens to the demo.

    python -I -S guard.py GRACE COMMAND...

Standard input is the lifeline: it ends when the demo ends, also when that is killed. Then, and on
SIGTERM, the command is asked to end (SIGTERM), and after GRACE seconds it is killed with all it
has started. The exit code is the command's, or 128 + the signal that ended it.

A program of its own, without imports from the demo: it must start fast and must not fail.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
LIFELINE = 0


def main() -> int:
    """Run the command to its end; return its exit code."""
    grace, command = float(sys.argv[1]), sys.argv[2:]
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    libc = ctypes.CDLL(None)
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            # should this guard be killed, its child goes with it (and there are no threads here)
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
        )
    except OSError as error:
        sys.stderr.write(f"error: cannot start {command[0]}: {error}\n")
        return 127
    _wait(child, wake_read, grace)
    _kill_group(child.pid)  # what the command started and did not end
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _wait(child: subprocess.Popen, wake_read: int, grace: float) -> None:  # type: ignore[type-arg]
    watched = [LIFELINE, wake_read]
    deadline = None
    while child.poll() is None:
        patience = None if deadline is None else max(0.0, deadline - time.monotonic())
        readable, _, _ = select.select(watched, [], [], patience)
        told_to_stop = False
        if wake_read in readable:
            received = os.read(wake_read, 64)
            told_to_stop = any(number != signal.SIGCHLD for number in received)
        if LIFELINE in readable and not os.read(LIFELINE, 64):
            watched.remove(LIFELINE)
            told_to_stop = True
        if told_to_stop and deadline is None:
            child.terminate()
            deadline = time.monotonic() + grace
        if deadline is not None and time.monotonic() >= deadline:
            _kill_group(child.pid)
            child.wait()


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
