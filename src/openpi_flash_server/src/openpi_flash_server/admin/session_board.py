"""The sessions that an operator sees: who sends what, how fast, and with what result.

Pure but for its lock: it reads events, and times are those of the events.

Observations are kept for `WATCHED_FOR` s after somebody has looked, for `MOST_WATCHED` sessions:
without an audience the board costs no memory.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from openpi_flash_models.errors import ObservationError
from openpi_flash_models.text.task import requested_task
from openpi_flash_server.admin.latency_history import LatencyHistory
from openpi_flash_server.logs.outside_text import shown
from openpi_flash_server.slot.answer import ErrorCode, Failure, Reply
from openpi_flash_server.slot.events import (
    Answered,
    Dropped,
    Event,
    Received,
    SessionEnded,
)
from openpi_flash_server.transports.client_events import (
    ClientConnected,
    ClientEvent,
    ClientLeft,
)

WATCHED_FOR = 10.0
"""s that observations are kept after somebody has looked."""
MOST_WATCHED = 8
"""Sessions whose last observation is kept."""
MOST_SESSIONS = 256
"""Sessions on the board; the one unused for longest makes room."""


@dataclass
class _Row:
    slot: str
    session: str
    client: str
    last_at: float
    received: int = 0
    answered: int = 0
    superseded: int = 0
    errors: int = 0
    last_error: str = ""
    prompt: str = ""
    subtask: str = ""
    latencies: LatencyHistory = field(default_factory=LatencyHistory)


@dataclass(frozen=True)
class SessionView:
    """One session, as the page shows it.

    Attributes:
        id: names it in a URL.
        slot: which slot answers it.
        session: its name.
        client: the connection that sent its last request.
        link: `QUIC`, `WebSocket` or `unix socket`; empty if unknown.
        software: of the client; empty if unknown.
        connected: whether that connection is open.
        idle_s: since its last request.
        received: requests, and how they ended: answered, superseded, errors.
        answered: see `received`.
        superseded: see `received`.
        errors: see `received`.
        last_error: the last error's code and message; empty if there was none.
        prompt: the task of the last request; empty if it named none.
        subtask: of the last answer that has one.
        rate_hz: answers a second.
        latency_ms: of the last answers, the oldest first.
        latency_p50_ms: their median; None without answers.
        latency_p99_ms: the 99th percentile.
    """

    id: str
    slot: str
    session: str
    client: str
    link: str
    software: str
    connected: bool
    idle_s: float
    received: int
    answered: int
    superseded: int
    errors: int
    last_error: str
    prompt: str
    subtask: str
    rate_hz: float
    latency_ms: list[float]
    latency_p50_ms: float | None
    latency_p99_ms: float | None


class SessionBoard:
    """The sessions of all slots.

    Args:
        keeps_frames: whether observations may be kept at all.
        clock: monotonic seconds, the slots' own.
    """

    def __init__(self, *, keeps_frames: bool, clock: Callable[[], float]) -> None:
        self._keeps_frames = keeps_frames
        self._clock = clock
        # in the order of their last request
        self._rows: OrderedDict[str, _Row] = OrderedDict()
        self._observations: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._latencies: dict[str, LatencyHistory] = {}
        self._open: dict[tuple[str, int], Received] = {}
        self._clients: dict[str, ClientConnected] = {}
        self._watched_until = float("-inf")
        self._changing = threading.Lock()

    def slot_listener(self, slot: str) -> Callable[[Event], None]:
        """Reads the events of a slot."""
        return lambda event: self._slot_event(slot, event)

    def client_event(self, event: ClientEvent) -> None:
        """Reads an event of a slot's clients."""
        if isinstance(event, ClientConnected | ClientLeft):
            with self._changing:
                if isinstance(event, ClientConnected):
                    self._clients[event.client] = event
                else:
                    self._clients.pop(event.client, None)
                    self._forget_unanswered(event.client)

    def look(self) -> list[SessionView]:
        """The sessions, by slot and name; observations are kept from now on for a while."""
        now = self._clock()
        with self._changing:
            self._watched_until = now + WATCHED_FOR if self._keeps_frames else now
            rows = sorted(self._rows.items(), key=lambda item: (item[1].slot, item[1].session))
            return [self._view(id_, row, now) for id_, row in rows]

    def latencies(self, slot: str) -> dict[str, Any]:
        """Rate and latencies of the last answers of a slot, for JSON; see `SessionView`."""
        now = self._clock()
        with self._changing:
            return _latencies(self._latencies.get(slot, LatencyHistory()), now)

    def observation(self, session_id: str) -> Mapping[str, Any] | None:
        """The last observation of a session that is watched."""
        with self._changing:
            return self._observations.get(session_id)

    def slot_of(self, session_id: str) -> str | None:
        """The slot of a session; None if it is not on the board."""
        with self._changing:
            row = self._rows.get(session_id)
            return None if row is None else row.slot

    def _slot_event(self, slot: str, event: Event) -> None:
        with self._changing:
            match event:
                case Received():
                    self._received(slot, event)
                case Answered() | Dropped():
                    self._ended(slot, event)
                case SessionEnded(session=str() as session):
                    self._rows.pop(_id(slot, session), None)
                    self._observations.pop(_id(slot, session), None)

    def _received(self, slot: str, event: Received) -> None:
        self._open[slot, event.request] = event
        if not isinstance(event.session, str):
            return
        id_ = _id(slot, event.session)
        row = self._rows.get(id_)
        if row is None:
            row = self._rows[id_] = _Row(slot, event.session, event.client.name, event.at)
            if len(self._rows) > MOST_SESSIONS:
                self._observations.pop(self._rows.popitem(last=False)[0], None)
        self._rows.move_to_end(id_)
        row.client, row.last_at = event.client.name, event.at
        row.received += 1
        if event.works:
            row.prompt = _prompt(event.works[0].observation)
        self._keep(id_, event)

    def _forget_unanswered(self, client: str) -> None:
        """Takes sessions off the board that never began: the slot does not tell their end."""
        gone = [id_ for id_, row in self._rows.items() if row.client == client and not row.answered]
        for id_ in gone:
            del self._rows[id_]
            self._observations.pop(id_, None)

    def _keep(self, id_: str, event: Received) -> None:
        if event.at > self._watched_until:
            self._observations.clear()
        elif event.works:
            self._observations[id_] = event.works[0].observation
            self._observations.move_to_end(id_)
            if len(self._observations) > MOST_WATCHED:
                self._observations.popitem(last=False)

    def _ended(self, slot: str, event: Answered | Dropped) -> None:
        received = self._open.pop((slot, event.request), None)
        if received is None:
            return
        latency_ms = (event.at - received.at) * 1000
        if isinstance(event.answer, Reply):
            self._latencies.setdefault(slot, LatencyHistory()).add(event.at, latency_ms)
        if not isinstance(event.session, str):
            return
        row = self._rows.get(_id(slot, event.session))
        if row is None:
            return
        if isinstance(event.answer, Failure):
            if event.answer.code is ErrorCode.SUPERSEDED:
                row.superseded += 1
            else:
                row.errors += 1
                row.last_error = f"{event.answer.code}: {event.answer.message}"
            return
        row.answered += 1
        row.latencies.add(event.at, latency_ms)
        subtask = event.answer.result.get("subtask")
        if isinstance(subtask, Mapping):
            row.subtask = shown(str(subtask.get("text", "")))

    def _view(self, id_: str, row: _Row, now: float) -> SessionView:
        client = self._clients.get(row.client)
        return SessionView(
            id=id_,
            slot=row.slot,
            session=row.session,
            client=shown(row.client),
            link=client.link if client else "",
            software=client.software if client else "",
            connected=client is not None,
            idle_s=max(0.0, now - row.last_at),
            received=row.received,
            answered=row.answered,
            superseded=row.superseded,
            errors=row.errors,
            last_error=row.last_error,
            prompt=row.prompt,
            subtask=row.subtask,
            **_latencies(row.latencies, now),
        )


def _latencies(history: LatencyHistory, now: float) -> dict[str, Any]:
    return {
        "rate_hz": history.rate_hz(now),
        "latency_ms": [round(ms, 2) for ms in history.ms],
        "latency_p50_ms": history.percentile(0.50),
        "latency_p99_ms": history.percentile(0.99),
    }


@functools.lru_cache(maxsize=MOST_SESSIONS)
def _id(slot: str, session: str) -> str:
    return hashlib.sha256(f"{slot}\0{session}".encode("utf-8", "replace")).hexdigest()[:16]


def _prompt(observation: Mapping[str, Any]) -> str:
    try:
        return shown(requested_task(observation) or "")
    except ObservationError:
        return ""
