"""What the server's scheduler keeps of its promises, with stub policies and real connections.

Robots beside each other, pings while the policy runs, batches, simulators beside robots, and JPEG
images. A stub sleeps as long as a device would take. What is compared alternates within one run.

usage: python benchmarks/scheduling.py [--seconds S] [--rounds N] [--write docs/benchmarks.md]
       (exits with 1 if a goal is missed, and names it)
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import websockets.sync.client
from results_page import machine, replace_section
from served_process import Served, served

from flash_transport import FlashTransportPolicy, PolicyClient, jpeg_message

POLICIES = """
import time
import numpy as np

ANSWER = {"actions": np.zeros((50, 8))}

class Single:
    metadata = {"action_horizon": 50, "action_dim": 8}
    def infer(self, observation):
        time.sleep(0.020)
        return ANSWER

class Batches:
    metadata = Single.metadata
    max_batch = 8
    def infer_batch(self, observations):
        time.sleep(0.020 * (1 + (len(observations) - 1) / 7))
        return [ANSWER] * len(observations)
"""
"""20 ms for one observation; a batch of 8 takes 40 ms."""

STATE = {"state": np.zeros(8), "prompt": "fold the towel"}
SETTLING = 5
"""A client's first requests of a round, before its rhythm is known."""
PING_EVERY = 0.01
"""s between two pings."""
MAX_WAIT_MS = 6.0
"""ms that a batch waits for others: eight clients in one process take 4 from answer to request."""


@dataclass(frozen=True)
class Asker:
    """A client that asks until the round ends.

    Attributes:
        name: its session.
        message: its observation.
        period: s between two requests; None: the next one follows each answer.
        phase: s of the first request.
    """

    name: str
    message: dict[str, Any] = field(default_factory=lambda: STATE)
    period: float | None = None
    phase: float = 0.0


@dataclass(frozen=True)
class Call:
    """One request: when it was sent and answered, s, and the server's times."""

    sent: float
    answered: float
    infer_ms: float
    decode_ms: float

    @property
    def ms(self) -> float:
        """How long the client waited."""
        return (self.answered - self.sent) * 1000


@dataclass(frozen=True)
class Plan:
    """How long a round lasts, s, and how many of each arm there are."""

    seconds: float
    rounds: int


@dataclass
class Results:
    """The rows of the tables, and the goals that were missed."""

    times: list[str] = field(default_factory=list)
    rates: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def time(self, name: str, ms: Sequence[float], ratio: str = "") -> None:
        """A row of latencies."""
        p50, p99 = np.percentile(ms, [50, 99])
        self.times.append(f"| {name} | {len(ms)} | {p50:.1f} | {p99:.1f} | {ratio} |")

    def rate(self, name: str, answers: int, seconds: float, ratio: str = "") -> None:
        """A row of answers per second."""
        self.rates.append(f"| {name} | {answers} | {answers / seconds:.1f} | {ratio} |")

    def goal(
        self, what: str, value: float, *, most: float | None = None, least: float = 0.0
    ) -> str:
        """The value beside its goal."""
        is_met = value >= least and (most is None or value <= most)
        text = (
            f"{value:.2f}, goal: {f'at least {least:g}' if most is None else f'at most {most:g}'}"
        )
        if not is_met:
            self.missed.append(f"{what}: {text}")
        return text


def main() -> None:
    """Measures, prints, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a round")
    parser.add_argument("--rounds", type=int, default=4, help="of each arm")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    plan, results = Plan(arguments.seconds, arguments.rounds), Results()
    with serving("Single") as single, serving("Batches", max_wait_ms=MAX_WAIT_MS) as batches:
        robots_beside_each_other(single, plan, results)
        robots_beside_simulators(single, plan, results)
        batches_against_single_calls(single, batches, plan, results)
        jpeg_against_no_images(single, plan, results)
    text = "\n".join(
        [
            f"{machine()}; {plan.rounds} rounds of {plan.seconds:g} s an arm, in turn; QUIC on "
            "loopback; clients and server share the machine (load average "
            f"{os.getloadavg()[0]:.1f}).",
            "",
            "| requests | n | p50 ms | p99 ms | p99, ratio |",
            "|---|---|---|---|---|",
            *results.times,
            "",
            "| clients that ask again at once | answers | per s | ratio |",
            "|---|---|---|---|",
            *results.rates,
        ]
    )
    print(text)
    if arguments.write is not None:
        replace_section(arguments.write, "scheduling", text)
    if results.missed:
        sys.exit("missed: " + "; ".join(results.missed))


def robots_beside_each_other(server: Served, plan: Plan, results: Results) -> None:
    """Eight robots, against the schedule that never idles; pings meanwhile and at rest."""
    robots = [Asker(f"robot {index}", period=0.2, phase=index * 0.013) for index in range(8)]
    ideal: list[float] = []
    calls: list[Call] = []
    at_rest: list[float] = []
    busy: list[float] = []
    with Clients(server, robots) as clients, pings(server, busy, lambda: clients.is_running):
        for _ in range(plan.rounds):
            with pings(server, at_rest, lambda: True):
                time.sleep(plan.seconds / 10)
            round_ = clients.run(robots, plan.seconds)
            calls += round_
            ideal += ideal_ms(round_)
    ratio = float(np.percentile([call.ms for call in calls], 99) / np.percentile(ideal, 99))
    name = "8 robots at 5 Hz"
    results.time(f"{name}: the ideal schedule of the same requests", ideal)
    results.time(name, [call.ms for call in calls], results.goal(name, ratio, most=1.1))
    results.time("ping of the WebSocket at rest", at_rest)
    p99 = float(np.percentile(busy, 99))
    goal = results.goal("ms of a ping", p99, most=5.0).replace(",", " ms,", 1)
    results.time("ping while the policy runs for the 8 robots", busy, goal)


def robots_beside_simulators(server: Served, plan: Plan, results: Results) -> None:
    """Four robots, alone and beside four simulators."""
    robots = [Asker(f"robot {index}", period=0.2, phase=index * 0.017) for index in range(4)]
    evaluation = {**STATE, "request_class": "evaluation"}
    simulators = [Asker(f"simulator {index}", evaluation) for index in range(4)]
    alone: list[float] = []
    beside: list[float] = []
    with Clients(server, [*robots, *simulators]) as clients:
        for _ in range(plan.rounds):
            alone += [call.ms for call in clients.run(robots, plan.seconds)]
            clients.run([*robots, *simulators], plan.seconds)
            beside += [call.ms for call in clients.of(robots)]
    ratio = float(np.percentile(beside, 99) / np.percentile(alone, 99))
    name = "4 robots at 5 Hz beside 4 simulators"
    results.time("4 robots at 5 Hz", alone)
    results.time(name, beside, results.goal(name, ratio, most=1.1))


def batches_against_single_calls(
    single: Served, batches: Served, plan: Plan, results: Results
) -> None:
    """Eight clients that ask again at once, of both policies."""
    askers = [Asker(f"robot {index}") for index in range(8)]
    answers = {"single": 0, "batches": 0}
    with Clients(single, askers) as one, Clients(batches, askers) as many:
        for _ in range(plan.rounds):
            one.run(askers, plan.seconds)
            many.run(askers, plan.seconds)
            answers["single"] += one.answers
            answers["batches"] += many.answers
    name = "8, batches of 8 cost as much as two"
    ratio = results.goal(name, answers["batches"] / answers["single"], least=3.0)
    seconds = plan.rounds * plan.seconds
    results.rate("8, one observation a call", answers["single"], seconds)
    results.rate(name, answers["batches"], seconds, ratio)


def jpeg_against_no_images(server: Served, plan: Plan, results: Results) -> None:
    """Two clients that ask again at once: the device has no reason to wait for their images."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    frame = jpeg_message(np.kron(pixels, np.ones((8, 8, 1), np.uint8)))
    images = {f"camera_{index}": frame for index in range(3)}
    without = [Asker(f"robot {index}") for index in range(2)]
    with_jpeg = [Asker(f"camera robot {index}", {**STATE, **images}) for index in range(2)]
    plain, jpeg = 0, 0
    decode_ms: list[float] = []
    with Clients(server, [*without, *with_jpeg]) as clients:
        for _ in range(plan.rounds):
            clients.run(without, plan.seconds)
            plain += clients.answers
            calls = clients.run(with_jpeg, plan.seconds)
            jpeg += clients.answers
            decode_ms += [call.decode_ms for call in calls]
    seconds = plan.rounds * plan.seconds
    results.rate("2 without images", plain, seconds)
    name = f"2 with 3 JPEGs [480, 640, 3], {np.median(decode_ms):.1f} ms to decode"
    results.rate(name, jpeg, seconds, f"{jpeg / plain:.2f}")


class Clients:
    """Connections to a server, one for each asker."""

    def __init__(self, server: Served, askers: Sequence[Asker]) -> None:
        self._connections: dict[str, PolicyClient] = {
            asker.name: FlashTransportPolicy("127.0.0.1", server.quic_port, session=asker.name)
            for asker in askers
        }
        self._calls: dict[str, list[Call]] = {}
        self.is_running = False

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections.values():
            connection.close()

    def run(self, askers: Sequence[Asker], seconds: float) -> list[Call]:
        """The calls of a round, without each client's first few."""
        self._calls = {asker.name: [] for asker in askers}
        begin = time.monotonic()
        threads = [
            threading.Thread(target=self._ask, args=(asker, begin, begin + seconds))
            for asker in askers
        ]
        self.is_running = True
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.is_running = False
        return self.of(askers)

    @property
    def answers(self) -> int:
        """How many there were in the last round."""
        return sum(len(calls) for calls in self._calls.values())

    def of(self, askers: Sequence[Asker]) -> list[Call]:
        """Their calls in the last round."""
        return [call for asker in askers for call in self._calls[asker.name][SETTLING:]]

    def _ask(self, asker: Asker, begin: float, end: float) -> None:
        connection, calls = self._connections[asker.name], self._calls[asker.name]
        jitter = random.Random(asker.name)
        due = begin + asker.phase
        while due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            sent = time.monotonic()
            timing = connection.infer(asker.message, timeout=10.0)["server_timing"]
            answered = time.monotonic()
            calls.append(Call(sent, answered, timing["infer_ms"], timing["decode_ms"]))
            if asker.period is None:
                due = answered
            else:
                due = begin + asker.phase + len(calls) * asker.period + jitter.uniform(0, 0.01)


def ideal_ms(calls: Sequence[Call]) -> list[float]:
    """Latencies of a device that never idles while somebody waits, and keeps the order."""
    free, latencies = 0.0, []
    for call in sorted(calls, key=lambda call: call.sent):
        free = max(free, call.sent) + call.infer_ms / 1000
        latencies.append((free - call.sent) * 1000)
    return latencies


@contextlib.contextmanager
def pings(server: Served, ms: list[float], counts: Callable[[], bool]) -> Iterator[None]:
    """Pings the WebSocket port until the block ends, and keeps the times while `counts()`."""
    stop = threading.Event()
    address = f"ws://127.0.0.1:{server.websocket_port}"

    def ping() -> None:
        with websockets.sync.client.connect(address, compression=None) as connection:
            connection.recv()
            while not stop.wait(PING_EVERY):
                sent = time.monotonic()
                connection.ping().wait()
                if counts():
                    ms.append((time.monotonic() - sent) * 1000)

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def serving(policy: str, **action: Any) -> Iterator[Served]:
    """A server of one of the stubs."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "stub_policies.py").write_text(POLICIES)
        name = {"model_config_name": f"python:stub_policies:{policy}"}
        with served(folder, {**name, **action}) as server:
            yield server


if __name__ == "__main__":
    main()
