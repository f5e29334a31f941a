"""A scheduler, a device and clients in virtual time: nothing waits, every run is the same."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import random
from collections import defaultdict

import numpy as np

from openpi_flash_server.slot.scheduler import Scheduler


@dataclasses.dataclass(eq=False)
class Asked:
    """A request of a simulated client."""

    session: str
    owner: tuple[int, str, str]
    sent_at: float
    rank: int = 0
    size: int = 1
    deadline: float | None = None
    key: str = ""
    is_awaited: bool = True
    cancelled: bool = False

    def is_cancelled(self):
        return self.cancelled


@dataclasses.dataclass
class Client:
    """Sends one request after the other; each session sends on its own.

    Attributes:
        name: of its computer, connection and session.
        period: s between requests; None: `think` s after each answer.
        think: s from an answer to the next request.
        jitter: s by which a request may be late.
        phase: s of the first request.
        address: of its computer; its own if empty.
        connection: its own if empty.
        api_key: the place of its key in the server's list.
        deadline: s that an answer is of use.
        key: requests with equal ones can share a call.
        is_awaited: whether it stands still without the answers.
    """

    name: str
    period: float | None = None
    think: float = 0.0
    jitter: float = 0.0
    phase: float = 0.0
    rank: int = 0
    size: int = 1
    address: str = ""
    connection: str = ""
    api_key: int = 0
    deadline: float | None = None
    key: str = ""
    is_awaited: bool = True


class Simulation:
    """Runs clients against a scheduler and one device.

    Args:
        clients: who sends.
        duration: s that a batch of n observations takes.
        max_batch: the largest batch.
        max_wait: of the scheduler, s.
        capacity: of the scheduler.
    """

    def __init__(self, clients, *, duration, max_batch=1, max_wait=0.0, capacity=256, seed=0):
        self.scheduler = Scheduler(capacity=capacity, max_wait=max_wait)
        self.latencies = defaultdict(list)
        self.answered = defaultdict(int)
        self.dropped = []
        self.batches = []
        self.now = 0.0
        self._duration = duration
        self._max_batch = max_batch
        self._random = random.Random(seed)
        self._numbers = itertools.count()
        self._agenda = []
        self._busy = False
        self._left = {}
        self._refused = set()
        self._clients = {client.name: client for client in clients}
        for client in clients:
            self._at(client.phase, lambda client=client: self._send(client))

    def run(self, until):
        """Lets `until` s pass."""
        while True:
            wakeup = self.scheduler.next_wakeup()
            agenda = self._agenda[0][0] if self._agenda else None
            times = [time for time in (agenda, wakeup) if time is not None]
            if not times or min(times) > until:
                return self
            self.now = max(self.now, min(times))
            if agenda is not None and agenda <= self.now:
                heapq.heappop(self._agenda)[2]()
            self._advance()

    def p99(self, *names, after=0):
        """99th percentile of the latencies of these clients, s, without each one's first few."""
        return float(
            np.percentile(np.concatenate([self.latencies[name][after:] for name in names]), 99)
        )

    def _at(self, time, act):
        heapq.heappush(self._agenda, (time, next(self._numbers), act))

    def _send(self, client):
        deadline = None if client.deadline is None else self.now + client.deadline
        request = Asked(
            client.name,
            (client.api_key, client.address or client.name, client.connection or client.name),
            self.now,
            client.rank,
            client.size,
            deadline,
            client.key,
            client.is_awaited,
        )
        if client.period is not None:
            late = self._random.uniform(0.0, client.jitter)
            self._at(self._next_due(client) + late, lambda: self._send(client))
        self._left[request] = request.size
        self._take_dropped(self.scheduler.submit(request, self.now))

    def _next_due(self, client):
        periods = int((self.now - client.phase) / client.period + 1e-9) + 1
        return client.phase + periods * client.period

    def _advance(self):
        while True:
            room = 0 if self._busy else self._max_batch
            batch = self.scheduler.next_batch(
                self.now, room, lambda one, other: one.key == other.key
            )
            self._take_dropped(batch.dropped)
            if not batch.pieces:
                return
            size = sum(piece.count for piece in batch.pieces)
            self._busy = True
            self.batches.append((self.now, batch.pieces))
            self._at(
                self.now + self._duration(size), lambda pieces=batch.pieces: self._finish(pieces)
            )

    def _finish(self, pieces):
        self._busy = False
        self.scheduler.finished(pieces, self.now)
        for piece in pieces:
            request = piece.request
            self._left[request] -= piece.count
            self.answered[request.session] += piece.count
            if self._left[request] == 0:
                del self._left[request]
                self.latencies[request.session].append(self.now - request.sent_at)
                self._go_on(request)

    def _take_dropped(self, dropped):
        for drop in dropped:
            self.dropped.append(drop)
            self._left.pop(drop.request, None)
            if drop.reason.name == "FULL":
                self._refused.add(drop.request)
            if drop.reason.name != "SUPERSEDED":
                self._go_on(drop.request)

    def _go_on(self, request):
        client = self._clients[request.session]
        if client.period is None:
            late = self._random.uniform(0.0, client.jitter)
            # a client that is refused pauses before it tries again
            think = client.think if request not in self._refused else 0.05
            self._at(self.now + think + late, lambda: self._send(client))
