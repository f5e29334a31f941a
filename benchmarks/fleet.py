"""How many GPUs a fleet of robots needs: the server's own scheduler and pool, in virtual time.

Robots ask at a steady rate with a little jitter; a call of the model takes what a batch of its size
takes on an H100 by SGLang's figures for pi0.5. Nothing waits for a clock, and each run is the same.

usage: python benchmarks/fleet.py [--robots N,N,...] [--gpus N,N,...] [--seconds S]
                                  [--write docs/scaling.md]
"""

from __future__ import annotations

import argparse
import functools
import heapq
import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from results_page import replace_section

from openpi_flash_server.replicas.pool import Call, Give, ReplicaPool, Start
from openpi_flash_server.slot.scheduler import Piece, Scheduler
from openpi_flash_server.slot.slot import MAX_WAITING_SESSIONS

BATCH_RATES = {1: 19.1, 2: 30.7, 4: 43.5, 8: 54.3}
"""Observations per second by the size of the batch (SGLang, Pi0.5.mdx 6.4, one H100)."""

PERIOD = 0.5
"""s between two requests of a robot: chunks of a second, half of which is played."""

JITTER = 0.02
"""s by which a request may be late."""

DEADLINE = 0.4
"""s after which an answer is of no use: the network has the rest of the period."""

MAX_WAIT = 0.003
"""s: `action.max_wait_ms` as it is by default."""


@dataclass(eq=False, slots=True)
class Request:
    """One request of a robot."""

    session: int
    owner: tuple[str, ...]
    sent_at: float
    deadline: float
    rank: int = 0
    size: int = 1
    is_awaited: bool = True

    def is_cancelled(self) -> bool:
        """Robots stay."""
        return False


@dataclass(frozen=True)
class Outcome:
    """What became of a fleet's requests.

    Attributes:
        sent: how many there were.
        in_time: how many were answered within the deadline.
        latencies: of those that were answered, s.
        gpu_seconds: of all GPUs, busy or not.
        busy: the part of it in which the model ran.
        mean_batch: observations of a call.
    """

    sent: int
    in_time: int
    latencies: Sequence[float]
    gpu_seconds: float
    busy: float
    mean_batch: float

    @property
    def p99_ms(self) -> float:
        """99th percentile of the latencies, ms."""
        return float(np.percentile(self.latencies, 99)) * 1000 if self.latencies else float("nan")

    @property
    def per_gpu_second(self) -> float:
        """Answers in time for each second of a GPU."""
        return self.in_time / self.gpu_seconds


def call_seconds(size: int) -> float:
    """How long a call with `size` observations takes, s; between the measured sizes by lines."""
    sizes = sorted(BATCH_RATES)
    return float(np.interp(size, sizes, [each / BATCH_RATES[each] for each in sizes]))


class Fleet:
    """Robots, one scheduler and a pool of GPUs.

    Args:
        robots: how many.
        gpus: how many, with a replica on each.
        max_batch: the largest batch.
        seed: of phases and jitter.
    """

    def __init__(self, robots: int, gpus: int, *, max_batch: int = 8, seed: int = 17) -> None:
        self.now = 0.0
        self._gpus = gpus
        self._max_batch = max_batch
        self._random = random.Random(seed)
        self._scheduler: Scheduler[Request] = Scheduler(
            capacity=MAX_WAITING_SESSIONS, max_wait=MAX_WAIT
        )
        self._pool = ReplicaPool()
        for start in self._pool.resize(gpus, 0.0):
            assert isinstance(start, Start)
            self._pool.is_ready(start.replica, 0.0)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._sent = self._in_time = self._calls = self._observations = 0
        self._latencies: list[float] = []
        self._busy = 0.0
        self._counted_until = 0.0
        for robot in range(robots):
            phase = self._random.uniform(0.0, PERIOD)
            self._at(phase, functools.partial(self._send, robot, phase))

    def run(self, seconds: float) -> Outcome:
        """Lets `seconds` pass; requests of the last one, which may not be over, do not count."""
        self._counted_until = seconds - 1.0
        while True:
            times = [self._agenda[0][0]]
            wakeup = self._scheduler.next_wakeup()
            times += [] if wakeup is None else [wakeup]
            if min(times) > seconds:
                break
            self.now = max(self.now, min(times))
            if self._agenda[0][0] <= self.now:
                heapq.heappop(self._agenda)[2]()
            self._start_all()
        return Outcome(
            self._sent,
            self._in_time,
            self._latencies,
            self._gpus * self._counted_until,
            min(1.0, self._busy / (self._gpus * seconds)),
            self._observations / max(1, self._calls),
        )

    def _at(self, time: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time, next(self._numbers), act))

    def _send(self, robot: int, due: float) -> None:
        self._sent += self.now < self._counted_until
        request = Request(robot, (f"robot {robot}",), self.now, self.now + DEADLINE)
        self._scheduler.submit(request, self.now)
        late = self._random.uniform(0.0, JITTER)
        self._at(due + PERIOD + late, lambda: self._send(robot, due + PERIOD))

    def _start_all(self) -> None:
        while len(self._scheduler):
            places = self._pool.free
            batch = self._scheduler.next_batch(
                self.now,
                self._max_batch if places else 0,
                _can_share,
                places=places,
            )
            if not batch.pieces:
                return
            call = Call(tuple(piece.request.session for piece in batch.pieces))
            (given,) = self._pool.begin(call, self.now)
            assert isinstance(given, Give)
            seconds = call_seconds(len(batch.pieces))
            self._busy += seconds
            self._calls += 1
            self._observations += len(batch.pieces)
            self._at(self.now + seconds, functools.partial(self._end, call, batch.pieces))

    def _end(self, call: Call, pieces: Sequence[Piece[Request]]) -> None:
        self._pool.answered(call, self.now)
        self._scheduler.finished(pieces, self.now)
        for piece in pieces:
            latency = self.now - piece.request.sent_at
            if piece.request.sent_at < self._counted_until:
                self._latencies.append(latency)
                self._in_time += latency <= DEADLINE


def _can_share(one: Request, other: Request) -> bool:
    """Robots of one kind: every two of them."""
    del one, other
    return True


def table(robots: Sequence[int], gpus: Sequence[int], seconds: float) -> str:
    """Markdown: a row for each fleet, with the GPUs that are not far too few or too many.

    The CPU per request is that of scheduler, pool and simulation on this machine.
    """
    lines = [
        f"Each robot asks every {PERIOD:g} s, {JITTER * 1000:g} ms late at most, and has no use "
        f"for an answer after {DEADLINE * 1000:g} ms. {seconds:g} s of virtual time a row.",
        "",
        "| robots | GPUs | in time | p99 | in time per GPU and second | GPUs busy | mean batch "
        "| CPU per request |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for fleet in robots:
        # a GPU serves 9 robots alone, and 27 in full batches
        for count in (each for each in gpus if fleet / 27 <= each <= max(1, fleet / 10)):
            began = time.process_time()
            outcome = Fleet(fleet, count).run(seconds)
            cpu_ms = (time.process_time() - began) / outcome.sent * 1000
            lines.append(
                f"| {fleet} | {count} | {outcome.in_time / outcome.sent:.1%} "
                f"| {outcome.p99_ms:.0f} ms | {outcome.per_gpu_second:.1f} "
                f"| {outcome.busy:.0%} | {outcome.mean_batch:.1f} | {cpu_ms:.2f} ms |"
            )
    return "\n".join(lines)


def main() -> None:
    """Prints the table, or writes it to a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robots", default="1,16,32,64,128,256,512,1000")
    parser.add_argument("--gpus", default="1,2,3,4,6,8,12,16,24,32,48,64,96")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    text = table(
        [int(each) for each in options.robots.split(",")],
        [int(each) for each in options.gpus.split(",")],
        options.seconds,
    )
    if options.write is None:
        print(text)
    else:
        replace_section(options.write, "fleet", text)


if __name__ == "__main__":
    main()
