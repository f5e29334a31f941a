"""Server of the peer arm: Hebbian's openpi-flash with a policy that answers at once.

It is the server that Hebbian's `serve` builds for a slot, without a model: its class for the unix
socket in this process, and its binary as a child, which ends QUIC and forwards each request to that
socket. The environment comes from `hebbian.checkout_environment`.

usage: python benchmarks/hebbian_server.py   (prints the UDP port it listens on)
"""

from __future__ import annotations

import errno
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

# the checkout's packages: on the path only when a user has given one
from hosting.local_policy_socket_server import LocalPolicySocketServer  # type: ignore
from openpi_protocol_server import ACTIONS
from transport_client import free_udp_port

from openpi_flash_transport import ServerArgs, resolve_binary_path  # type: ignore

START_LIMIT = 10.0
"""Seconds in which the binary must listen."""


class FixedPolicy:
    """Answers every observation with the same chunk."""

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Return the chunk, [50, 32]."""
        assert "prompt" in observation
        return {"actions": ACTIONS, "policy_timing": {"infer_ms": 0.0}}

    def reset(self) -> None:
        """Hold no state."""


def main() -> None:
    """Serve until terminated."""
    signal.signal(signal.SIGTERM, leave)
    port = free_udp_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        backend = Path(directory) / "backend.sock"
        server = LocalPolicySocketServer(FixedPolicy(), backend, {}, log=discard)
        arguments = ServerArgs(backend_socket_path=backend, listen_port=port).to_argv()
        with subprocess.Popen(
            [str(resolve_binary_path()), *arguments], stdout=subprocess.DEVNULL
        ) as binary:
            try:
                answering = threading.Thread(target=server.serve_forever, daemon=True)
                answering.start()
                wait_until_up(port, backend, binary)
                print(port, flush=True)
                answering.join()
            finally:
                binary.kill()


def discard(line: str) -> None:
    """Keep the server's log off the standard output, which holds the port."""
    del line


def leave(number: int, frame: FrameType | None) -> NoReturn:
    """Leave through the `finally` that ends the child."""
    del frame
    raise SystemExit(128 + number)


def wait_until_up(port: int, backend: Path, binary: subprocess.Popen[bytes]) -> None:
    """Return once the unix socket exists and the UDP port is bound.

    Raises:
        SystemExit: the binary ended, or took longer than `START_LIMIT`.
    """
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if binary.poll() is not None:
            raise SystemExit(f"{binary.args!r} ended with {binary.returncode}")
        if backend.is_socket() and is_bound(port):
            return
        time.sleep(0.02)
    raise SystemExit(f"{binary.args!r} did not listen within {START_LIMIT} s")


def is_bound(port: int) -> bool:
    """Return whether somebody is bound to the UDP port."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


if __name__ == "__main__":
    main()
