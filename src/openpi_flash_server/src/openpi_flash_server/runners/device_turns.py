"""Turns of an action model and a planner that run on threads of their own and share a device."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence

from openpi_flash_server.runners.turn_order import TurnOrder
from openpi_flash_server.slot.work import Work


class DeviceTurns:
    """Lets one of them use the device at a time, actions first; see `turn_order.py`.

    Threads of their own rather than one for both: a planner that hangs then stops no action.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._order = TurnOrder()
        self._changed = threading.Condition()

    def action_wanted(self, works: Sequence[Work]) -> None:
        """Announces a batch: no step of the planner starts before it, unless it is due."""
        with self._changed:
            self._order.action_wanted(_sessions(works), self._clock())

    @contextlib.contextmanager
    def action(self, runner: Hashable, works: Sequence[Work]) -> Iterator[None]:
        """The turn of an announced batch; a runner has one at a time."""
        with self._changed:
            self._wait_until(self._order.action_is_next)
            self._order.action_started(runner, self._clock())
        try:
            yield
        finally:
            with self._changed:
                self._order.action_ended(runner, _sessions(works), self._clock())
                self._changed.notify_all()

    def action_given_up(self, runner: Hashable) -> None:
        """Steps of the planner no longer wait for the batch of a runner that hangs."""
        with self._changed:
            self._order.action_given_up(runner)
            self._changed.notify_all()

    @contextlib.contextmanager
    def step(self, program: str, *, is_awaited: bool) -> Iterator[None]:
        """The turn of one program of the planner; `is_awaited`: somebody waits for the subtask."""
        run = object()
        with self._changed:
            self._order.step_ready(run, program, self._clock(), is_awaited=is_awaited)
            self._wait_until(functools.partial(self._order.step_is_next, run))
            self._order.step_started(run, self._clock())
        try:
            yield
        finally:
            with self._changed:
                self._order.step_ended(run, self._clock())
                self._changed.notify_all()

    def _wait_until(self, is_next: Callable[[float], bool]) -> None:
        while not is_next(now := self._clock()):
            look = self._order.next_look
            self._changed.wait(None if look is None else max(0.0, look - now))


def _sessions(works: Sequence[Work]) -> list[tuple[object, int]]:
    return [(work.session, work.request_class.rank) for work in works]
