"""A robot's and a server's network namespace, and the emulated path between them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

ROBOT_ADDRESS = "10.231.77.2"
SERVER_ADDRESS = "10.231.77.1"


class Namespace:
    """A network of its own on this machine.

    Args:
        name: as `ip netns` knows it; made by the constructor, gone with `delete`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        self.run("ip", "link", "set", "lo", "up")

    def command(self, *command: str) -> list[str]:
        """The command line that runs `command` inside."""
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str) -> None:
        """Runs a command inside, to its end."""
        run(*self.command(*command))

    def take(self, device: str, address: str) -> None:
        """Moves a device in and gives it an address."""
        run("ip", "link", "set", device, "netns", self.name)
        self.run("ip", "address", "add", f"{address}/24", "dev", device)
        # a flight must not be dropped in front of the path
        self.run("ip", "link", "set", device, "txqueuelen", "10000", "up")

    def delete(self) -> None:
        """Ends it; devices inside go with it."""
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)


def run(*command: str) -> None:
    """Runs a command to its end.

    Raises:
        OSError: it failed; says what it said.
    """
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise OSError(f"'{' '.join(command)}' failed: {said}")


@contextlib.contextmanager
def two_namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    """The robot's and the server's, both gone at the end whatever happens.

    Raises:
        OSError: this machine or this user cannot make them.
    """
    with contextlib.ExitStack() as stack:
        both = []
        for role in ("robot", "server"):
            namespace = Namespace(f"flash-{role}-{os.getpid()}")
            stack.callback(namespace.delete)
            both.append(namespace)
        yield both[0], both[1]


@contextlib.contextmanager
def emulated_path(
    program: Path, robot: Namespace, server: Namespace, arguments: Sequence[str]
) -> Iterator[None]:
    """Joins the namespaces for as long as the block lasts.

    Raises:
        OSError: the path could not be made.
    """
    devices = [f"flr{os.getpid()}", f"fls{os.getpid()}"]
    command = [str(program), *devices, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline().strip() != "ready":
                raise OSError(f"'{' '.join(command)}' did not come up")
            robot.take(devices[0], ROBOT_ADDRESS)
            server.take(devices[1], SERVER_ADDRESS)
            yield
        finally:
            process.kill()
