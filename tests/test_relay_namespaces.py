"""A robot and a server in networks of their own meet at a relay: alone, directly, and back."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TOKEN = "0123456789abcdef0123456789abcdef"
PORT = 5557
OF_ROBOT, OF_SERVER = 78, 79
"""The third number of the addresses between each end and the relay, .2 and .1."""
WAIT = 120.0

pytestmark = pytest.mark.timeout(600)


def built(name):
    """A program of ours, if somebody has built it; the latest."""
    found = [TARGET / profile / name for profile in ("release", "debug")]
    found = [path for path in found if path.exists()]
    if not found:
        build = "cargo build -p flash_transport --features binary --bins --examples"
        pytest.skip(f"{name} is not built: {build}")
    return max(found, key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def programs():
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        pytest.skip("namespaces and TUN devices are root's")
    if shutil.which("ip") is None:
        pytest.skip("there is no iproute2")
    return built("openpi-flash-transport"), built("examples/emulated_path")


class Process:
    """A process that answers each line with a line."""

    def __init__(self, command):
        self.popen = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def line(self):
        line = self.popen.stdout.readline()
        assert line, f"{self.popen.args} has ended"
        return line.strip()

    def ask(self, text="go on"):
        self.popen.stdin.write(text + "\n")
        self.popen.stdin.flush()
        return self.line()

    def close(self):
        self.popen.kill()
        self.popen.wait()
        self.popen.stdin.close()
        self.popen.stdout.close()


class World:
    """The three networks. Robot and server have a path to the relay each, and a cable between them
    that is unplugged at first.

    Attributes:
        robot, relay, server: their namespaces.
    """

    def __init__(self, stack, programs, folder, loss):
        sys.path.insert(0, str(ROOT / "benchmarks" / "network"))
        stack.callback(sys.path.remove, str(ROOT / "benchmarks" / "network"))
        from namespaces import Namespace, run

        self._stack, self._program = stack, programs[0]
        for role in ("robot", "relay", "server"):
            namespace = Namespace(f"flash-{role}-{os.getpid()}")
            stack.callback(namespace.delete)
            setattr(self, role, namespace)
        for end, number in ((self.robot, OF_ROBOT), (self.server, OF_SERVER)):
            devices = [f"fl{number}{side}{os.getpid()}" for side in "er"]
            path = [programs[1], *devices, number, 5000, 10**8, 10**8, 10**6, "none", loss]
            carrier = self._started(path)
            assert carrier.line() == "ready"
            end.take(devices[0], f"10.231.{number}.2")
            self.relay.take(devices[1], f"10.231.{number}.1")
        cable = [f"flc{side}{os.getpid()}" for side in "rs"]
        run("ip", "link", "add", cable[0], "type", "veth", "peer", "name", cable[1])
        ends = (self.robot, OF_ROBOT, OF_SERVER), (self.server, OF_SERVER, OF_ROBOT)
        for device, (end, _, _) in zip(cable, ends, strict=True):
            run("ip", "link", "set", device, "netns", end.name)
        self._cable = list(zip(cable, ends, strict=True))
        self.tokens, self.token = folder / "tokens", folder / "token"
        self.tokens.write_text(f"lab1 {TOKEN}\n")
        self.token.write_text(f"{TOKEN}\n")
        for path in (self.tokens, self.token):
            path.chmod(0o600)
        self.start_relay()

    def plug(self, is_in):
        """Whether the cable between robot and server is in."""
        for device, (end, own, other) in self._cable:
            end.run("ip", "link", "set", device, "up" if is_in else "down")
            if is_in:
                route = ("ip", "route", "add", f"10.231.{other}.2", "dev", device)
                end.run(*route, "src", f"10.231.{own}.2")

    def cable_bytes(self):
        """Bytes that the robot has sent and received over the cable."""
        device = self._cable[0][0]
        command = self.robot.command("ip", "-j", "-s", "link", "show", device)
        (link,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        return sum(link["stats64"][way]["bytes"] for way in ("rx", "tx"))

    def start_relay(self):
        command = [self._program, "relay", "--listen-port", PORT, "--token-file", self.tokens]
        self.relay_process = self._started(self.relay.command(*map(str, command)))
        assert self.relay_process.line().startswith("relaying on UDP")

    def kill_relay(self):
        self.relay_process.popen.kill()
        self.relay_process.popen.wait()

    def end(self, namespace, number, role, *arguments):
        """A process of `relay_ends.py`, and its first line."""
        command = [sys.executable, ROOT / "tests" / "relay_ends.py", role]
        command += [f"10.231.{number}.1", self.token, *arguments]
        process = self._started(namespace.command(*map(str, command)))
        return process, process.line()

    def _started(self, command):
        process = Process(command)
        self._stack.callback(process.close)
        return process


@pytest.fixture
def world(programs, tmp_path):
    with contextlib.ExitStack() as stack:
        try:
            yield World(stack, programs, tmp_path, "independent:0.02")
        except OSError as error:
            pytest.skip(f"no namespaces or devices here: {error}")


def until(holds, *, act):
    """Does `act` until something comes to hold."""
    deadline = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        act()


def test_two_that_reach_only_the_relay_meet_there_and_do_without_it_when_they_can(world):
    server, fingerprint = world.end(world.server, OF_SERVER, "serve")
    robot, _ = world.end(world.robot, OF_ROBOT, "ask", fingerprint)

    def ask():
        assert robot.ask() == "whole"

    def crosses():
        """Whether a request and its answer, 300 KB, take the cable."""
        before = world.cable_bytes()
        ask()
        return world.cable_bytes() - before > 200_000

    for _ in range(5):
        assert not crosses()

    # the QUIC connection outlives the relay
    world.kill_relay()
    world.start_relay()
    assert not crosses()

    world.plug(True)
    until(crosses, act=lambda: time.sleep(0.1))
    world.kill_relay()
    assert crosses()
    world.start_relay()

    world.plug(False)
    assert not crosses()
    world.plug(True)
    until(crosses, act=lambda: time.sleep(0.1))

    # all of it on one connection
    assert server.ask() == "1"
