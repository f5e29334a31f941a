"""The user's callbacks, on a thread of their own: none of them can delay a command."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.bridge.effects import (
    Effect,
    PublishChunk,
    PublishPlan,
    PublishStats,
    PublishSubtask,
)
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.run.robot import Reading
from openpi_flash_robot.senses.observation import Image

MOST_WAITING = 10_000
"""Calls that wait for a callback that is too slow, before the newest are dropped."""

CLOSE_TIMEOUT_S = 2.0

log = logging.getLogger("openpi_flash_robot")


@dataclass(frozen=True)
class CommandSent:
    """What the robot was told, for recording.

    Attributes:
        stamp_ns: when, on the clock of `time.monotonic_ns()`.
        positions: of the commanded axes, [N], rad or m.
        velocities: of the same, [N], rad/s or m/s.
    """

    stamp_ns: int
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]


@dataclass(frozen=True)
class Listeners:
    """Who is told what, for recording and display; None for nobody.

    Attributes:
        on_chunk: a chunk that is played now, as the policy gave it.
        on_plan: what has become of it within the limits; also in a dry run.
        on_status: the status, when state, cause or instruction have changed.
        on_subtask: the planner's words.
        on_stats: what an inference cost.
        on_command: what the robot was told, `control_rate_hz` times a second while it moves.
        on_reading: what `read` has returned, copied.
        on_images: what `read_images` has returned, copied: images by the name of the camera.
    """

    on_chunk: Callable[[PublishChunk], object] | None = None
    on_plan: Callable[[PublishPlan], object] | None = None
    on_status: Callable[[Status], object] | None = None
    on_subtask: Callable[[PublishSubtask], object] | None = None
    on_stats: Callable[[PublishStats], object] | None = None
    on_command: Callable[[CommandSent], object] | None = None
    on_reading: Callable[[Reading], object] | None = None
    on_images: Callable[[dict[str, Image]], object] | None = None

    def of_effect(self, effect: Effect) -> Callable[[Any], object] | None:
        """Who is told of an effect."""
        if isinstance(effect, PublishChunk):
            return self.on_chunk
        if isinstance(effect, PublishPlan):
            return self.on_plan
        if isinstance(effect, PublishSubtask):
            return self.on_subtask
        return self.on_stats if isinstance(effect, PublishStats) else None


class ListenerThread:
    """Calls back in the order in which things happened."""

    def __init__(self) -> None:
        self._calls: queue.Queue[tuple[Callable[[Any], object], Any] | None] = queue.Queue()
        self._has_warned = False
        self._thread = threading.Thread(
            target=self._run, name="openpi_flash_listeners", daemon=True
        )
        self._thread.start()

    def tell(self, listener: Callable[[Any], object] | None, what: Any) -> None:
        """Have a listener called soon; returns at once."""
        if listener is None:
            return
        if self._calls.qsize() >= MOST_WAITING:
            if not self._has_warned:
                self._has_warned = True
                log.warning("a callback is too slow: %d calls wait, newer are lost", MOST_WAITING)
            return
        self._calls.put((listener, what))

    def close(self) -> None:
        """Call what still waits, for at most `CLOSE_TIMEOUT_S`."""
        self._calls.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            listener, what = call
            try:
                listener(what)
            except Exception:  # the user's own code
                log.exception("a callback failed")
