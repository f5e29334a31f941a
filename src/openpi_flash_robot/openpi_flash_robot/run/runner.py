"""Runs a policy on a robot: `with PolicyRunner(robot, settings) as runner: runner.run()`.

Three threads and those of the link and the callbacks, so that nothing waits for something slow:

- one reads the robot, and one more its images where it has `read_images`;
- one decides: readings, answers and orders go to the bridge, under one lock;
- one commands: it samples the newest window, and waits for nobody. A window ends at rest, so a
  robot whose deciding thread fails or hangs is braked.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any

from openpi_flash_robot.bridge.effects import Effect, Reconnect, ResetPolicy, SendRequest, Warn
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.link.api_key import find_api_key
from openpi_flash_robot.link.policy_link import PolicyLink, backoff
from openpi_flash_robot.link.transport import (
    PolicyConnection,
    image_chooser,
    link_notices,
    open_policy,
    resolve_server,
)
from openpi_flash_robot.play.motion import MotionState
from openpi_flash_robot.run.drive import Drive, Fault, in_python
from openpi_flash_robot.run.episodes import RunnerEpisodes
from openpi_flash_robot.run.interrupts import sigterm_as_ctrl_c, undisturbed
from openpi_flash_robot.run.listeners import CommandSent, Listeners, ListenerThread
from openpi_flash_robot.run.robot import (
    HoldsWindows,
    ReadsImages,
    Robot,
    Stops,
    command_window_of,
)
from openpi_flash_robot.run.sending import ARRAYS, job_of
from openpi_flash_robot.run.steady_thread import SteadyThread
from openpi_flash_robot.settings.node_settings import LinkSettings, NodeSettings
from openpi_flash_robot.settings.stop_states import said_by

IMAGE_PERIOD_NS = 33_000_000
"""`read_images` is called at most 30 times a second."""

STAND_TIMEOUT_S = 5.0
"""How long `stop` waits at most until the robot stands: far longer than any braking, for a machine
that is overloaded."""

THREAD_TIMEOUT_S = 1.0

log = logging.getLogger("openpi_flash_robot")


class RobotFaultError(RuntimeError):
    """`command` failed, or the runner itself did: nothing is commanded any more."""


class PolicyRunner:
    """Ties a robot to a policy server. Its methods may be called from any thread.

    Attributes:
        episodes: records episodes for training.
    """

    def __init__(
        self,
        robot: Robot,
        settings: NodeSettings,
        *,
        open_policy: Callable[[LinkSettings], PolicyConnection] = open_policy,
        **listeners: Callable[[Any], object] | None,
    ) -> None:
        """Prepare; `start` or `run` begins.

        Args:
            robot: what is read and commanded; connected.
            settings: of `robot_settings` or `load_settings`. It moves nothing while `dry_run` is
                true, the default.
            open_policy: makes the connection to the server.
            listeners: the callbacks of `Listeners`, such as `on_chunk`.

        Raises:
            ParameterError: the server's address or the API key is none.
            TypeError: a callback of another name.
        """
        self._robot = robot
        link = resolve_server(settings.link)
        key = find_api_key(link, os.environ)
        session = f"python-{secrets.token_hex(4)}"
        self._settings = replace(settings, link=replace(link, api_key=key.text, session=session))
        self._warnings = key.warnings
        self._listeners = Listeners(**listeners)
        self._lock = threading.RLock()
        self._drive = Drive(self._settings)
        self.episodes = RunnerEpisodes(self._settings, self.axes, lambda: self.status)
        self._images = image_chooser(settings.observation)
        self._link = PolicyLink(
            partial(open_policy, self._settings.link),
            wake=self._wake,
            delays=partial(backoff, link.reconnect_delay_max),
        )
        period_ns = settings.control_period_ns
        self._decider = SteadyThread("openpi_flash_decide", period_ns, self._decide)
        self._commander = SteadyThread("openpi_flash_command", period_ns, self._command)
        self._readers = [SteadyThread("openpi_flash_read", period_ns, self._read)]
        if isinstance(robot, ReadsImages):
            images = partial(self._read_images, robot)
            self._readers.append(SteadyThread("openpi_flash_images", IMAGE_PERIOD_NS, images))
        self._callbacks: ListenerThread | None = None
        self._last_status: Status | None = None
        self._holds_windows = robot if isinstance(robot, HoldsWindows) else None
        self._commanded_ns = 0
        self._is_told_to_move = False
        self._is_lost = False
        self._is_active = self._is_closed = False
        self._ended = threading.Event()

    # --- a run ---

    def start(self) -> None:
        """Connect, read and, unless it is a dry run, move; returns at once.

        Raises:
            RuntimeError: the runner is closed.
            RobotFaultError: it has failed before.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError("this runner is closed; make a new one")
            self._raise_fault()
            if self._callbacks is None:
                self._begin()
            if not self._is_active:
                self._is_active = True
                self._order(self._drive.bridge.activate)

    def run(self, seconds: float | None = None) -> None:
        """Run until the time is over, or Ctrl-C or SIGTERM comes; then brake, and stand.

        Args:
            seconds: how long; None: until somebody ends it.

        Raises:
            RobotFaultError: `command` failed.
        """
        self.start()
        end = None if seconds is None else time.monotonic() + seconds
        why = "not active"
        with sigterm_as_ctrl_c():
            try:
                while not self._ended.wait(_left(end)) and _left(end) > 0.0:
                    pass
            except KeyboardInterrupt:
                why = "stopped by Ctrl-C or SIGTERM"
                log.info("%s: braking", why)
            finally:
                self.stop(why)
        self._raise_fault()

    def stop(self, why: str = "not active") -> bool:
        """Brake, and wait until the robot stands; `start` or `run` goes on from there.

        Returns:
            Whether it was told to stand; false if `command` failed, or takes too long.
        """
        with undisturbed():
            with self._lock:
                if self._is_active:
                    self._is_active = False
                    self._order(lambda now: self._drive.bridge.deactivate(now, why))
            deadline = time.monotonic() + STAND_TIMEOUT_S
            while not (stands := self._stands()) and time.monotonic() < deadline:
                if self._is_lost:
                    return False
                time.sleep(0.005)
            return stands

    def close(self) -> None:
        """Brake, wait until the robot stands, and end; calls the robot's `stop` if it has one."""
        with undisturbed():
            with self._lock:
                was_closed, self._is_closed = self._is_closed, True
            if was_closed or self._callbacks is None:
                return
            self.stop("shutting down")
            for thread in (self._decider, self._commander, *self._readers):
                thread.close(THREAD_TIMEOUT_S)
            self._link.close()
            self.episodes.close()
            if not self._is_lost:
                self._stop_robot()
            self._callbacks.close()
            atexit.unregister(self.close)

    def __enter__(self) -> PolicyRunner:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- orders ---

    def hold(self) -> None:
        """Brake, and hold until `reset`."""
        self._order(self._drive.bridge.hold)

    def pause(self, paused: bool = True) -> None:
        """Brake and stand, or go on."""
        self._order(lambda now: self._drive.bridge.pause(now, paused))

    def reset(self) -> str:
        """Forget the running chunk and the policy's state; ends `hold` and what needs a person.

        Returns:
            Why the robot holds all the same: an emergency stop that is pressed; else empty.
        """
        pressed = self._order(self._drive.bridge.reset)
        return "" if pressed is None else in_python(pressed.message)

    def set_prompt(self, prompt: str, *, reset: bool = False) -> None:
        """Change the instruction; `reset` forgets the running chunk and the policy's state."""
        self._order(lambda now: self._drive.bridge.set_prompt(now, prompt, reset=reset))

    def hear_stop(self, name: str, value: bool) -> None:
        """Say what an emergency stop, an enabling or a hold switch is at.

        Args:
            name: as in `emergency_stop_topics`, `enable_topic` or `hold_topic`.
            value: true is pressed, enabled, held.
        """
        self._order(lambda now: self._drive.bridge.hear_stop(now, name, value))

    def hear_state(self, name: str, value: int) -> None:
        """Say what a state of the robot is that may stop it.

        Args:
            name: as in `stop_states`.
            value: `mode`, `robot_mode` or `data` of its driver's message.

        Raises:
            KeyError: the settings have no such state.
        """
        kinds = {state.name: state.kind for state in self._settings.stops.states}
        said = said_by(kinds[name], value)
        self._order(lambda now: self._drive.bridge.hear_state(now, name, said))

    def hear_takeover(self, value: bool) -> None:
        """Say whether a person commands the robot; false gives it back to the policy.

        Say it again and again while it is true: a switch that is silent for `stop_timeout` leaves
        the robot standing with the person. Needs `takeover_topic` and `teleop_topic`, any names.
        """
        self._order(lambda now: self._drive.bridge.hear_takeover(now, value))

    def hear_target(self, names: Sequence[str], positions: Sequence[float]) -> None:
        """Say where the person who commands the robot wants the axes, rad or m.

        Args:
            names: as in `teleop_joints`, or of the axes.
            positions: of these.
        """
        self._order(lambda now: self._drive.bridge.hear_target(now, names, positions))

    @property
    def status(self) -> Status:
        """What the robot does and why."""
        with self._lock:
            return self._drive.status(time.monotonic_ns())

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes of a command, in its order: those that a controller moves."""
        return self._drive.player.axes

    def _order(self, give: Callable[[int], Any]) -> Any:
        with self._lock:
            if self._drive.fault is not None:
                return None
            result = give(time.monotonic_ns())
            self._carry_out(self._drive.carry())
            return result

    # --- the deciding thread ---

    def _begin(self) -> None:
        for warning in (*self._warnings, *_warnings(self._robot, self._settings)):
            log.warning(warning)
        self._callbacks = ListenerThread()
        # a program that forgets to close still brakes when it ends
        atexit.register(self.close)
        self._link.start()
        for thread in (self._decider, self._commander, *self._readers):
            thread.start()

    def _wake(self) -> None:
        self._decider.wake()

    def _decide(self, _: int) -> bool:
        try:
            with self._lock:
                if self._drive.fault is None:
                    for event in self._link.events():
                        self._drive.bridge.link_event(time.monotonic_ns(), event)
                        self.episodes.link_event(event)
                    self._carry_out(self._drive.decide(time.monotonic_ns()))
        except Exception as error:
            log.exception("the runner failed; the robot is braked by the end of its last window")
            self._fail(Fault(f"the runner failed: {_named(error)}", error))
        return self._drive.fault is None

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, SendRequest):
                self._link.send(job_of(effect, self._settings, ARRAYS, self._images))
            elif isinstance(effect, ResetPolicy):
                self._link.reset()
            elif isinstance(effect, Reconnect):
                self._link.reconnect()
            elif isinstance(effect, Warn):
                log.warning(in_python(effect.message))
            else:
                self._tell(self._listeners.of_effect(effect), effect)
            self.episodes.effect(time.monotonic_ns(), effect)
        status = self._drive.status(time.monotonic_ns())
        self.episodes.status(time.monotonic_ns(), status)
        if status.differs_from(self._last_status):
            self._last_status = status
            log.log(status.severity, status.line)
            self._tell(self._listeners.on_status, status)

    def _tell(self, listener: Callable[[Any], object] | None, what: Any) -> None:
        if self._callbacks is not None:
            self._callbacks.tell(listener, what)

    # --- the reading threads ---

    def _read(self, now: int) -> bool:
        def take() -> None:
            reading = self._robot.read()
            with self._lock:
                taken = self._drive.take_reading(now, reading)
            self.episodes.reading(now, taken)
            self._tell(self._listeners.on_reading, taken)

        self._try_to("read()", take)
        return True

    def _read_images(self, robot: ReadsImages, now: int) -> bool:
        def take() -> None:
            images = robot.read_images()
            with self._lock:
                taken = self._drive.take_images(now, images)
            self.episodes.images(now, taken)
            self._tell(self._listeners.on_images, taken)

        self._try_to("read_images()", take)
        return True

    def _try_to(self, what: str, take: Callable[[], None]) -> None:
        """Read, or remember why that failed: the bridge is blind then, and holds."""
        try:
            take()
        except Exception as error:  # of the user's robot
            problem = f"{what} failed: {_named(error)}"
            with self._lock:
                is_new = what not in self._drive.read_problems
                self._drive.read_problems[what] = problem
            if is_new:
                log.warning(problem)
        else:
            with self._lock:
                self._drive.read_problems.pop(what, None)

    # --- the commanding thread ---

    def _command(self, now: int) -> bool:
        try:
            state = self._tell_robot(now)
        except Exception as error:  # of the user's robot
            log.exception("the robot cannot be commanded; nothing is commanded any more")
            self._is_lost = True
            self._stop_robot()
            self._fail(Fault(f"the robot cannot be commanded: {_named(error)}", error))
            return False
        self._commanded_ns = now
        self._is_told_to_move = state is not None and bool(state.velocities.any())
        if state is not None:
            sent = CommandSent(now, state.positions, state.velocities)
            self.episodes.command(sent)
            self._tell(self._listeners.on_command, sent)
        return True

    def _tell_robot(self, now: int) -> MotionState | None:
        if self._holds_windows is None:
            state = self._drive.command(now)
            if state is not None:
                self._robot.command(state.positions, state.velocities)
            return state
        window = self._drive.new_window()
        if window is not None:
            self._holds_windows.command_window(command_window_of(window))
        return self._drive.player.due(now)

    def _stands(self) -> bool:
        """Whether the last command was sent when the motion had ended."""
        return not (self._is_told_to_move or self._drive.player.is_moving(self._commanded_ns))

    def _stop_robot(self) -> None:
        if not isinstance(self._robot, Stops):
            return
        try:
            self._robot.stop()
        except Exception:  # of the user's robot
            log.exception("stop() failed")

    # --- faults ---

    def _fail(self, fault: Fault) -> None:
        with self._lock:
            if self._drive.fault is None:
                self._drive.fault = fault
                self._carry_out([])
        self._ended.set()

    def _raise_fault(self) -> None:
        fault = self._drive.fault
        if fault is not None:
            raise RobotFaultError(fault.message) from fault.error


def _left(end: float | None) -> float:
    """Seconds to wait at a time, 0 at the end."""
    return 1.0 if end is None else max(0.0, min(end - time.monotonic(), 1.0))


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _warnings(robot: Robot, settings: NodeSettings) -> list[str]:
    warnings = []
    if not settings.dry_run:
        warnings.append(f"dry_run is false: chunks move {', '.join(settings.axes)}")
    told_rates = any(controller.kind.takes_rates for controller in settings.controllers)
    if told_rates and not settings.dry_run and not isinstance(robot, (Stops, HoldsWindows)):
        warnings.append(
            "the robot is told velocities and has neither stop() nor command_window(): when "
            "command() fails, or this process ends in a crash, it goes on with the last one"
        )
    return [*warnings, *link_notices(settings.link)]
