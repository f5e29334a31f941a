"""The arms of the transport benchmark: which client asks which server, and their processes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from hebbian import checkout_environment, commit

HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way from a client to an answer.

    Attributes:
        name: for people.
        client: first argument of transport_client.py.
        server: "openpi-protocol", "openpi-flash" or "hebbian".
        environment: of both processes, on top of the benchmark's own.
    """

    name: str
    client: str
    server: str
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


ARMS = (
    Arm(
        "openpi-client, server of openpi's protocol (WebSocket)", "openpi-client", "openpi-protocol"
    ),
    Arm("openpi-client, openpi-flash (WebSocket)", "openpi-client", "openpi-flash"),
    Arm("FlashTransportPolicy, openpi-flash (QUIC)", "quic", "openpi-flash"),
    Arm("FlashTransportPolicy, openpi-flash (unix socket)", "unix", "openpi-flash"),
)


def hebbian_arm(checkout: Path) -> Arm:
    """Return the arm whose client and server are those of a checkout of Hebbian's openpi-flash.

    Raises:
        SystemExit: the path is no such checkout, or its binary is not built.
    """
    name = f"Hebbian's openpi-flash at {commit(checkout)}, its client and server (QUIC)"
    return Arm(name, "hebbian", "hebbian", checkout_environment(checkout))


@contextlib.contextmanager
def start_server(
    arm: Arm, directory: Path, environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the arm's server; yield it with the port or path its client shall use."""
    environment = {**os.environ, **arm.environment, **environment}
    if arm.server == "openpi-flash":
        with _start_openpi_flash(arm, directory, environment) as server:
            yield server
        return
    program = {"openpi-protocol": "openpi_protocol_server.py", "hebbian": "hebbian_server.py"}
    command = [sys.executable, str(HERE / program[arm.server])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise SystemExit(f"server {command!r} ended with {process.wait()}")
        yield process, port
        process.terminate()


@contextlib.contextmanager
def _start_openpi_flash(
    arm: Arm, directory: Path, environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    websocket_port, quic_port = free_ports()
    config = directory / f"{arm.client}.json"
    transport: dict[str, object] = {"websocket_port": websocket_port, "quic_port": quic_port}
    address = {"openpi-client": str(websocket_port), "quic": str(quic_port)}.get(arm.client)
    if address is None:
        address = transport["unix_socket_path"] = str(directory / "action.sock")
    config.write_text(
        json.dumps(
            {
                "host": "127.0.0.1",
                "state_dir": str(directory),
                "action": {"model_config_name": "null", "checkpoint_dir": ""},
                "action_transport": transport,
            }
        )
    )
    command = [sys.executable, "-m", "openpi_flash_server", "serve", "--config", str(config)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        wait_until_ready(f"http://127.0.0.1:{websocket_port}/healthz", process)
        yield process, address
        process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def start_client(
    arm: Arm, address: str, cameras: int, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Start the arm's client process, connected by pipes."""
    program = str(HERE / "transport_client.py")
    command = [sys.executable, program, arm.client, address, str(cameras)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        text=True,
        bufsize=1,
        env={**os.environ, **arm.environment, **environment},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def ask(client: subprocess.Popen[str]) -> int:
    """Have the client make one request; return the nanoseconds of its round trip."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write("\n")
    client.stdin.flush()
    line = client.stdout.readline()
    if not line:
        raise SystemExit(f"client {client.args!r} ended with {client.wait()}")
    return int(line)


def wait_until_ready(url: str, process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Poll a health endpoint until it answers 200."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"server {process.args!r} ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise SystemExit(f"{url} was not ready within {seconds} s")


def free_ports() -> tuple[int, int]:
    """Return a TCP and a UDP port of loopback that nobody listens on."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        return tcp.getsockname()[1], udp.getsockname()[1]
