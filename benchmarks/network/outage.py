"""How soon clients are back after the network was gone. Linux, root.

Each client asks again and again in one network namespace, its server is in another. For some
seconds neither reaches the other: their neighbour tables name a device that is not there, so that
packets vanish as they do on a dead radio link, without an error to anybody. Measured is the time
from the end of the outage to the next answer. The arms take turns.

usage: python benchmarks/network/outage.py [--outages N] [--seconds S] [--write docs]
       python benchmarks/network/outage.py ask CLIENT PORT
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from namespaces import ROBOT_ADDRESS, SERVER_ADDRESS, Namespace, run, two_namespaces
from results_page import machine, replace_section
from transport_client import make_observation

ARMS = {
    "openpi-client": "serve-websocket",
    "WebsocketPolicy": "serve-websocket",
    "FlashTransportPolicy": "serve-quic",
}
"""Each client and the role of its server in `peer.py`; the first two have openpi's."""

NOBODY = "02:00:00:00:00:99"
TIMEOUT_S = 1.0
"""Of each request of a client that has time-outs; openpi's waits for ever."""
REST_S = 2.0
"""Of answers before an outage: connections are open, and their round trip is known."""
GIVEN_UP_S = 60.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Be a client, or measure all of them and print the table."""
    if (arguments or sys.argv[1:])[:1] == ["ask"]:
        ask(*(arguments or sys.argv[1:])[1:3])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--outages", type=int, default=10, help="of each arm")
    parser.add_argument("--seconds", type=float, default=3.0, help="that an outage lasts")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="folder of benchmarks.md")
    args = parser.parse_args(arguments)
    back: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with two_namespaces() as (robot, server), cable(robot, server) as addresses:
        for _ in range(args.outages):
            for arm in ARMS:
                with answers(arm, robot, server) as heard:
                    back[arm].append(seconds_to_be_back(heard, addresses, args.seconds))
    table = describe(back, args.seconds)
    print(table)
    if args.write:
        replace_section(args.write / "benchmarks.md", "outage", table)


def ask(arm: str, port: str) -> None:
    """Asks until killed; prints the time of each answer on the monotonic clock."""
    observation, policy = make_observation(cameras=1), connect(arm, int(port))
    given = {} if arm == "openpi-client" else {"timeout": TIMEOUT_S}
    while True:
        try:
            policy.infer(observation, **given)
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
        else:
            print(json.dumps({"at": time.monotonic()}), flush=True)
        time.sleep(0.02)


def connect(arm: str, port: int) -> Any:
    """A connected client."""
    if arm == "openpi-client":
        from openpi_client.websocket_client_policy import WebsocketClientPolicy

        return WebsocketClientPolicy(SERVER_ADDRESS, port)
    import flash_transport

    return getattr(flash_transport, arm)(SERVER_ADDRESS, port)


@contextlib.contextmanager
def cable(robot: Namespace, server: Namespace) -> Iterator[list[tuple[Namespace, str, str, str]]]:
    """Joins the namespaces: for each its device, and the address and hardware of the other."""
    devices = [f"flr{os.getpid()}", f"fls{os.getpid()}"]
    run("ip", "link", "add", devices[0], "type", "veth", "peer", "name", devices[1])
    robot.take(devices[0], ROBOT_ADDRESS)
    server.take(devices[1], SERVER_ADDRESS)
    hardware = [hardware_of(end, name) for end, name in zip((robot, server), devices, strict=True)]
    yield [
        (robot, devices[0], SERVER_ADDRESS, hardware[1]),
        (server, devices[1], ROBOT_ADDRESS, hardware[0]),
    ]


def hardware_of(end: Namespace, device: str) -> str:
    """A device's hardware address."""
    shown = subprocess.run(
        end.command("ip", "-json", "link", "show", device), check=True, capture_output=True
    )
    return str(json.loads(shown.stdout)[0]["address"])


def set_neighbours(ends: Sequence[tuple[Namespace, str, str, str]], *, is_cut: bool) -> None:
    """Says where the other is, or a place where nobody is."""
    for end, device, address, hardware in ends:
        where = NOBODY if is_cut else hardware
        options = ("lladdr", where, "dev", device, "nud", "permanent")
        end.run("ip", "neighbour", "replace", address, *options)


class Answers:
    """When a client had answers, as it says them."""

    def __init__(self, client: subprocess.Popen[str]) -> None:
        self._client, self._changed = client, threading.Condition()
        self._times: list[float] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def after(self, moment: float, within_s: float) -> float:
        """The first after a moment."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._later(moment), within_s):
                raise SystemExit(f"no answer within {within_s:g} s: {self._client.args!r}")
            return self._later(moment)[0]

    def _later(self, moment: float) -> list[float]:
        return [at for at in self._times if at > moment]

    def _listen(self) -> None:
        assert self._client.stdout is not None
        for line in self._client.stdout:
            said = json.loads(line)
            if "at" in said:
                with self._changed:
                    self._times.append(said["at"])
                    self._changed.notify_all()


@contextlib.contextmanager
def answers(arm: str, robot: Namespace, server: Namespace) -> Iterator[Answers]:
    """A server and a client that asks it."""
    peer, pipe = Path(__file__).with_name("peer.py"), subprocess.PIPE
    serving = [sys.executable, str(peer), "cubic", ARMS[arm], SERVER_ADDRESS]
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen(server.command(*serving), stdout=pipe, text=True)
        stack.enter_context(process)
        stack.callback(process.kill)
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        asking = robot.command(sys.executable, __file__, "ask", arm, port)
        client = stack.enter_context(subprocess.Popen(asking, stdout=pipe, text=True))
        stack.callback(client.kill)
        yield Answers(client)


def seconds_to_be_back(
    heard: Answers, ends: Sequence[tuple[Namespace, str, str, str]], outage_s: float
) -> float:
    """Cuts the network for some seconds; how long after its end the next answer came."""
    set_neighbours(ends, is_cut=False)
    heard.after(0.0, GIVEN_UP_S)
    time.sleep(REST_S)
    set_neighbours(ends, is_cut=True)
    time.sleep(outage_s)
    set_neighbours(ends, is_cut=False)
    healed = time.monotonic()
    return heard.after(healed, GIVEN_UP_S) - healed


def describe(back: dict[str, list[float]], outage_s: float) -> str:
    """The Markdown table, with the machine that it ran on."""
    count = len(next(iter(back.values())))
    lines = [
        f"{machine()}; seconds from the end of an outage of {outage_s:g} s to the next answer; "
        f"n = {count} per client, interleaved.",
        "",
        "| client | median | longest |",
        "|---|---|---|",
    ]
    lines += [
        f"| {arm} | {np.median(times):.2f} | {max(times):.2f} |" for arm, times in back.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
