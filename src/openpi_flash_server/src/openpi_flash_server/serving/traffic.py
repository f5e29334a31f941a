"""Logs from time to time what happened to a slot's requests."""

from __future__ import annotations

import threading
from collections.abc import Callable

from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.slot.events import Event
from openpi_flash_server.slot.tally import Outcome, Tally

log = EventLogger(__name__)


class Traffic:
    """The requests of one slot, to subscribe to its events.

    Args:
        slot: its name.
        clock: monotonic seconds.
    """

    def __init__(self, slot: str, clock: Callable[[], float]) -> None:
        self._slot = slot
        self._clock = clock
        self._tally = Tally(clock())
        self._counting = threading.Lock()

    def count(self, event: Event) -> None:
        """Takes one event into account; from any thread."""
        with self._counting:
            self._tally.count(event)

    def log_summary(self) -> None:
        """Logs what happened since the last call; times are those of answered requests."""
        with self._counting:
            summary = self._tally.take(self._clock())
        if summary is None:
            return
        log.info(
            "requests",
            slot=self._slot,
            seconds=round(summary.seconds),
            received=summary.received,
            **{outcome.name.lower(): summary.outcomes[outcome] for outcome in Outcome},
            queue_p50_ms=round(summary.queue_ms.p50, 1),
            queue_p99_ms=round(summary.queue_ms.p99, 1),
            infer_p50_ms=round(summary.infer_ms.p50, 1),
            infer_p99_ms=round(summary.infer_ms.p99, 1),
        )
