"""An executor that waits for little, and seldom.

rclpy makes a new wait set whenever it waits, and two for each callback, which costs more than all
that a control period does. So a thread waits for subscriptions, services and what else may come at
any time, without the GIL, and the thread that spins keeps the time of the timers itself. All
callbacks run on the thread that spins.

The cost of a wait set grows with the entities in it: above all with the events of every publisher
and subscription, which report incompatible partners. A node of ours has about 20 of these, and a
dozen services that only tools call. They are waited for now and then.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from rclpy.executors import ShutdownException, SingleThreadedExecutor, TimeoutException
from rclpy.service import Service
from rclpy.timer import Timer

from openpi_flash_client_node.ros.rclpy_versions import InvalidHandle

try:
    from rclpy.event_handler import EventHandler
except ImportError:  # Humble
    from rclpy.qos_event import QoSEventHandler as EventHandler

EVENTS_PERIOD_S = 1.0
"""Of the middleware's events: they end in a line of the log."""

TOOLS_PERIOD_S = 0.1
"""Of the services that read and change parameters and read states."""

LONGEST_WAIT_S = 1.0
"""Of the thread that spins, whatever else it waits for."""


class SparingExecutor(SingleThreadedExecutor):
    """Runs callbacks on one thread; looks at events and at the services of tools now and then only.

    Services of the node's own, subscriptions and lifecycle transitions are served at once, timers
    when they are due. A timer's callback is no coroutine and takes no argument.
    """

    def __init__(self, **arguments: Any) -> None:
        """Take rclpy's arguments."""
        self._events = _Turn(EVENTS_PERIOD_S)
        self._tools = _Turn(TOOLS_PERIOD_S)
        self._changed = threading.Condition()
        # what the thread that waits has found for the other: a callback of rclpy's, or an error
        self._found: Any = None
        self._is_woken = self._is_ending = False
        self._watcher: threading.Thread | None = None
        super().__init__(**arguments)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for something that is ready, and execute it and every timer that is due.

        Raises:
            Exception: what a callback raises.
        """
        self._spin(timeout_sec, lambda: False)

    def spin_once_until_future_complete(self, future: Any, timeout_sec: Any = None) -> None:
        """As `spin_once`; ends its wait also when the future is done."""
        future.add_done_callback(lambda _: self.wake())
        self._spin(getattr(timeout_sec, "timeout", timeout_sec), future.done)

    def _spin(self, timeout_sec: float | None, is_over: Callable[[], bool]) -> None:
        self._watch()
        until = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        while not is_over():
            asked = time.monotonic()
            waits = [(timer, _seconds_until(timer)) for timer in self._timers()]
            found = self._wait(until, min([seconds for _, seconds in waits], default=math.inf))
            if found is not None:
                self._execute_found(found)
            now = time.monotonic()
            due = [timer for timer, seconds in waits if seconds <= now - asked]
            called = [timer for timer in due if _call_if_ready(timer)]
            if called or found is not None or (until is not None and now >= until):
                return

    def wake(self) -> None:
        """Look again at what there is to wait for."""
        super().wake()
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Stop waiting, as rclpy's executors do."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        if self._watcher is not None:
            super().wake()
            self._watcher.join()
        if hasattr(self._found, "cancel"):
            _drop(self._found)
        return bool(super().shutdown(timeout_sec))

    def can_execute(self, entity: Any) -> bool:
        """Whether an entity belongs into the next wait set."""
        if isinstance(entity, Timer):
            return False
        if isinstance(entity, EventHandler):
            is_turn = self._events.admits()
        elif isinstance(entity, Service) and _is_for_tools(entity.srv_type):
            is_turn = self._tools.admits()
        else:
            is_turn = True
        return is_turn and super().can_execute(entity)

    def begin_wait(self, now: float) -> None:
        """A wait follows at this moment, in seconds: `can_execute` says what for."""
        self._events.begin(now)
        self._tools.begin(now)

    # --- the thread that spins ---

    def _timers(self) -> list[Timer]:
        return [timer for node in self.get_nodes() for timer in node.timers]

    def _wait(self, until: float | None, seconds: float) -> Any:
        """Wait for what the other thread finds, for so many seconds and not beyond a moment.

        Returns:
            What it has found; None for nothing.
        """
        with self._changed:
            if self._found is None and not self._is_woken:
                left = LONGEST_WAIT_S if until is None else until - time.monotonic()
                seconds = min(left, LONGEST_WAIT_S, seconds)
                if seconds > 0:
                    self._changed.wait(seconds)
            self._is_woken = False
            return self._found

    def _execute_found(self, found: Any) -> None:
        """Execute it, then let the other thread go on: it waits for nothing meanwhile."""
        try:
            if isinstance(found, Exception):
                raise found
            found()
            if (error := found.exception()) is not None:
                raise error
        finally:
            self._go_on()

    def _go_on(self) -> None:
        with self._changed:
            self._found = None
            self._changed.notify_all()

    # --- the thread that waits ---

    def _watch(self) -> None:
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._look, name="wait_set", daemon=True)
            self._watcher.start()

    def _look(self) -> None:
        while not self._is_ending:
            self.begin_wait(time.monotonic())
            found: Any
            try:
                found, _, _ = self.wait_for_ready_callbacks(timeout_sec=TOOLS_PERIOD_S)
            except TimeoutException:
                continue
            except ShutdownException:
                return
            except Exception as error:  # of a context that has ended: the caller's affair
                found = error
            with self._changed:
                self._found = found
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._found is None or self._is_ending)
            if isinstance(found, Exception):
                self._watcher = None
                return


def _seconds_until(timer: Timer) -> float:
    """How long a timer is not due; one of simulated time may be due whenever a message says so."""
    if timer.is_canceled():
        return math.inf
    if getattr(timer.clock, "ros_time_is_active", False):
        return 0.0 if timer.is_ready() else math.inf
    nanoseconds: int = timer.time_until_next_call()
    return nanoseconds / 1e9


def _call_if_ready(timer: Timer) -> bool:
    """Call a timer that is due and was not destroyed by an earlier callback; whether it was."""
    handle = timer.handle
    try:
        if not timer.is_ready():
            return False
        with handle:
            handle.call_timer()
    except InvalidHandle:
        return False
    timer.callback()
    return True


def _drop(handler: Any) -> None:
    """Give up a callback that nobody will execute: Python warns of a coroutine that never began."""
    handler.cancel()
    coroutine: Any = getattr(handler, "_handler", None)
    if hasattr(coroutine, "close"):
        coroutine.close()


def _is_for_tools(kind: Any) -> bool:
    return kind.__name__.startswith("Get") or kind.__module__.startswith("rcl_interfaces.")


class _Turn:
    """Opens once in a period, and until it was made use of."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._opens_at = 0.0
        self._is_open = self._is_used = False

    def begin(self, now: float) -> None:
        """A wait may follow."""
        if self._is_used:
            self._is_open = self._is_used = False
            self._opens_at = now + self._period_s
        self._is_open = self._is_open or now >= self._opens_at

    def admits(self) -> bool:
        """Whether an entity may be waited for now."""
        self._is_used = self._is_open
        return self._is_open
