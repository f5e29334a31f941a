"""What the bridge commands: the chunk player and all that may stop it, as one thing that moves.

Whatever stops the robot goes through `hold`. The effects are the commands to its controllers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.bridge.clock_watch import ClockWatch
from openpi_flash_robot.bridge.command_topic import CommandTopic
from openpi_flash_robot.bridge.commander import Commander
from openpi_flash_robot.bridge.effects import Effect
from openpi_flash_robot.bridge.leading import Leading
from openpi_flash_robot.bridge.patience import Patience
from openpi_flash_robot.bridge.run_state import (
    NOT_ACTIVE,
    Order,
    RunState,
    Stopped,
    condition_of,
    is_active,
    is_ordered,
    latch,
    latched,
    looked_at,
    not_active,
    ordered,
    without,
)
from openpi_flash_robot.bridge.safety_watch import SafetyWatch
from openpi_flash_robot.bridge.status import Cause, Condition, State, holding
from openpi_flash_robot.bridge.stop_inputs import StopInputs
from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.play.chunk import Chunk
from openpi_flash_robot.play.chunk_player import ChunkPlayer, Targets
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.senses.frames import CameraFrames
from openpi_flash_robot.senses.joints import MOVED_WITHIN_NS, JointReading
from openpi_flash_robot.senses.states import StateSources
from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_robot.settings.stop_states import SaidState

SETTLE_NS = 1_500_000_000
"""How long after its end a motion is looked at: whether the arm has come to where it ends."""

WAITING = Hold(HoldKind.WAITING, "waiting for the first chunk")


class Arm:
    """Plays chunks, and stands when it must.

    Attributes:
        player: what is played.
        watch: what else stops the robot.
        run: whether the robot may go, or what only a person ends.
        stop: the emergency stop or switch that keeps it from moving; None if none does.
    """

    def __init__(
        self,
        settings: NodeSettings,
        frames: CameraFrames[Any],
        states: StateSources,
        *,
        fingerprint: Callable[[Any], int] | None,
        drop_request: Callable[[], None],
        effects: list[Effect],
    ) -> None:
        """Begin with an arm that is not active.

        Args:
            settings: of the node.
            frames: of the cameras.
            states: joints and other numbers.
            fingerprint: of an image; see `SafetyWatch`.
            drop_request: called when the answer to the request in flight is of no use any more.
            effects: where the commands to the controllers go, in order.
        """
        self._settings, self._states, self._drop_request = settings, states, drop_request
        self.player = ChunkPlayer(settings.axes, settings.player)
        self.watch = SafetyWatch(settings, frames, states, fingerprint)
        self.run: RunState = NOT_ACTIVE
        self._effects = effects
        self._patience = Patience(settings.fault_after_ns)
        self._commander = Commander(settings)
        self._clock = ClockWatch()
        self._stops = StopInputs(settings.stops)
        self.stop = self._stops.problem(0)
        self._leading = Leading(settings, self.player, self.watch)

    def update_settings(self, settings: NodeSettings) -> None:
        """Take new values of the dynamic parameters."""
        self._settings = settings
        self.watch.update_settings(settings)
        self._patience.fault_after_ns = settings.fault_after_ns
        self.player.update_settings(settings.player)
        self._commander.update_settings(settings)
        self._leading.update_settings(settings)

    # --- what people say ---

    def activate(self, now: int) -> None:
        """The robot may go, if no other order keeps it; nobody knows where it was led meanwhile.

        While the controllers still play this node's braking, that is where it is.
        """
        self.run = without(self.run, Order.INACTIVE)
        if self._leading.is_taken:
            self.run = ordered(self.run, Order.TAKEN)
        if self._settings.wait_for_goal:
            self.run = ordered(self.run, Order.NO_GOAL)
        self._patience.forget()
        self._commander.forget()
        self.player.hold(WAITING, now)
        if not self.player.is_moving(now):
            self.player.forget()

    def deactivate(self, now: int, message: str) -> None:
        """Stand; ends a pause, a hold and what needs a person."""
        self._drop_request()
        self.hold(now, Hold(HoldKind.INACTIVE, message))
        self.run = not_active(self.run)
        self._commander.forget()

    def order(self, now: int, order: Order, why: str) -> None:
        """Stand by a person's order, until it is taken back."""
        self.run = ordered(self.run, order)
        self._patience.forget()
        self._drop_request()
        self.hold(now, Hold(HoldKind.REQUESTED, why))

    def take_back(self, order: Order) -> None:
        """A person has taken an order back."""
        self.run = without(self.run, order)
        self._patience.forget()

    def restart(self, now: int) -> None:
        """Forget the running chunk; the next one starts anew."""
        self._drop_request()
        self._patience.forget()
        self.hold(now, Hold(HoldKind.REQUESTED, "reset; waiting for the first chunk"))

    def look_at(self, now: int) -> Hold | None:
        """A person has looked at the robot; the emergency stop that is pressed all the same."""
        self.run = without(self.run, Order.HELD)
        self.heed_stops(now)
        pressed = self.stop
        if pressed is not None and pressed.kind is HoldKind.EMERGENCY_STOP:
            return pressed
        self.run = looked_at(self.run)
        return None

    def hear_stop(self, now: int, topic: str, value: bool) -> None:
        """A message of an emergency stop, an enabling or a hold switch has arrived."""
        self._stops.hear(now, topic, value)
        self.heed_stops(now)

    def hear_state(self, now: int, name: str, said: SaidState) -> None:
        """A message of a state of the robot that may stop it has arrived."""
        self._stops.hear_state(now, name, said)
        self.heed_stops(now)

    def look_at_stop_publishers(self, now: int, counts: Mapping[str, int]) -> None:
        """Take how many publishers the states of the robot have, by their names."""
        self._stops.look_at_publishers(counts)
        self.heed_stops(now)

    def heed_stops(self, now: int) -> None:
        """Hold while a stop is pressed or not heard; after an emergency stop until `look_at`."""
        before, self.stop = self.stop, self._stops.problem(now)
        stop = self.stop
        if stop is None:
            return
        if before is None:
            self._drop_request()
        # once: a command that is led back to an arm without power goes on
        moves = before is None and self.player.is_moving(now)
        if self.player.plan is None and not moves:
            return
        if stop.kind is HoldKind.EMERGENCY_STOP and latched(self.run) is None:
            look = "has stopped the robot; look at it, then call ~/reset"
            self.run = latch(self.run, Hold(stop.kind, f"{stop.message}: it {look}"))
        self.hold(now, stop)

    def hear_takeover(self, now: int, value: bool) -> bool:
        """A message of the switch by which a person takes the robot; whether that gives it back."""
        if not self._leading.hear_switch(now, value):
            return False
        if value:
            self.order(now, Order.TAKEN, "a person has taken the robot")
        else:
            self.take_back(Order.TAKEN)
        return not value

    def hear_target(self, now: int, names: Sequence[str], positions: Sequence[float]) -> None:
        """Where a person wants the axes has arrived."""
        self._leading.hear_target(now, names, positions)

    @property
    def is_taken(self) -> bool:
        """Whether a person commands the robot."""
        return self._leading.is_taken

    @property
    def is_watched(self) -> bool:
        """Whether it is looked at how well the arm follows."""
        return self.player.plan is not None or self._leading.is_led

    # --- the controllers ---

    def look_at_topics(
        self, now: int, topics: Sequence[CommandTopic], objection: Hold | None
    ) -> None:
        """Take who is at the controllers' topics; nothing moves before it is this node alone.

        Args:
            now: this moment.
            topics: of all controllers.
            objection: why these controllers would not move the arm well; None if they do.
        """
        before = self.watch.topic_problem
        problem = self.watch.look_at_topics(topics, objection)
        if problem is None:
            if before is not None and not self.player.is_moving(now):
                self.player.forget()  # somebody else may have moved the controllers
            return
        if before is None:
            self._drop_request()
        if self.player.plan is not None:
            self.hold(now, problem)

    def look_at_clock(self, now: int, steady_ns: int) -> None:
        """Stop by what the controllers have if the clock of `now` stands still."""
        if not self._clock.look(now, steady_ns):
            return
        assert self._clock.problem is not None
        self._drop_request()
        played = self._commander.let_go()
        if played is None:
            self.hold(now, self._clock.problem)
        else:
            self.player.resume_from(played, self._clock.problem, now)

    def hold(self, now: int, reason: Hold) -> None:
        """The one way to stop: forget the plan, brake along it, remember why."""
        self._leading.stop()
        self.keep_up(now)
        self.player.hold(reason, now)
        if is_active(self.run):
            self._command(now)

    def keep_up(self, now: int) -> None:
        """If nothing was commanded for too long, hold where that has led the controllers."""
        alone = self._commander.left_alone(now)
        if alone is not None:
            played, message = alone
            self.player.resume_from(played, Hold(HoldKind.EXHAUSTED, message), now)
            self._commander.forget()

    def _command(self, now: int) -> None:
        """Send the controllers what they may play from now on, if there is a now."""
        if self._clock.problem is not None:
            return
        self._effects += self._commander.command(
            self.player.motion, now, self.player.limits, to_its_end=self.player.is_braking
        )

    # --- motion ---

    def accept(self, chunk: Chunk, now: int) -> Plan | Hold | None:
        """Play a chunk from now on, or why not.

        None: nothing changes, as `ChunkPlayer.accept` says.
        """
        was_holding = self.player.plan is None
        if was_holding and (blind := self.watch.blind(now)):
            return blind
        moved_itself = self.player.is_moving(now - MOVED_WITHIN_NS)
        if was_holding and not moved_itself and self._commander.commands:
            stranger = self.watch.moved_by_another()
            if stranger is not None:
                return self.player.hold(stranger, now)
        plan = self.player.accept(chunk, now=now, measured=self._measured(now))
        if isinstance(plan, Plan):
            if was_holding:
                self.watch.start()
            self._command(now)
        return plan

    def accept_first(self, chunk: Chunk, horizon: int, now: int) -> Plan | None:
        """Play the first steps of a chunk of so many from now on; None: nothing changes."""
        was_holding = self.player.plan is None
        if was_holding:
            moved_itself = self.player.is_moving(now - MOVED_WITHIN_NS)
            watched = not moved_itself and self._commander.commands
            if self.watch.blind(now) or (watched and self.watch.moved_by_another()):
                return None
        plan = self.player.accept_first(
            chunk, horizon=horizon, now=now, measured=self._measured(now)
        )
        if plan is not None:
            if was_holding:
                self.watch.start()
            self._command(now)
        return plan

    def step(self, now: int) -> None:
        """Hold if the plan has ended or must end; `command` follows."""
        self.keep_up(now)
        self.heed_stops(now)
        outcome = self.player.step(now)
        if isinstance(outcome, Targets):
            self._patience.move()
            self._look(now, outcome)
        elif is_active(self.run) and self._commander.commands:
            if self.is_taken and not is_ordered(self.run, Order.HELD, Order.PAUSED):
                self._lead(now)
            self._look_after(now)
            self._wait(now, outcome)

    def command(self, now: int) -> None:
        """Send the controllers what is played now."""
        if is_active(self.run):
            self._command(now)

    def _lead(self, now: int) -> None:
        """Follow the person, unless something stands in the way."""
        unready = self.watch.unready
        obstacle = (
            latched(self.run)
            or self.stop
            or self.watch.topic_problem
            or self.watch.joints_blind(now)
        )
        if unready is not None:
            obstacle = Hold(HoldKind.REQUESTED, unready)
        self._leading.lead(now, self._measured(now), obstacle)

    def _wait(self, now: int, reason: Hold) -> None:
        """Leave it to a person whether a robot goes on that has stood for long."""
        stranded = self._patience.wait(now, reason)
        if stranded is not None and latched(self.run) is None:
            self._drop_request()
            self.run = latch(self.run, stranded)

    def _look(self, now: int, targets: Targets) -> None:
        """Hold if the robot moves blindly, or does not follow."""
        stop = self.watch.blind(now)
        if self.watch.unready is not None:  # a limit was taken away while the robot moves
            stop = Hold(HoldKind.REQUESTED, self.watch.unready)
        if stop is not None:
            self.hold(now, stop)
            return
        lost = self.watch.lost(now, targets.positions) if self._commander.commands else None
        if lost is not None:
            self._drop_request()
            self.run = latch(self.run, lost)
            self.hold(now, lost)

    def _look_after(self, now: int) -> None:
        """Look whether an arm follows its braking, and lead the command back to one that did not.

        The motion of the robot is commanded until it stands, also while a stop is pressed: an arm
        whose brakes have closed stands elsewhere.
        """
        motion = self.player.motion
        if motion is None or not self.player.is_moving(now - SETTLE_NS):
            return
        if self.player.is_braking or self._leading.is_led:
            lost = self.watch.lost(now, motion.sample(now).positions)
            if lost is not None:
                self.run = latch(self.run, lost)
                self.hold(now, lost)
        if is_ordered(self.run, Order.HELD, Order.PAUSED) or self.player.is_moving(now):
            return
        reason = latched(self.run)
        if reason is None or reason.kind is not HoldKind.TRACKING:
            return
        blocked = self.watch.blocked_at(now)
        if blocked is not None:
            self.player.lead_back(now, blocked)

    def _measured(self, now: int) -> NDArray[np.float64]:
        """Where the axes are; NaN if that is not known any more."""
        max_age_ns = self._settings.observation.max_age_ns
        reading = self._states.joints.newest(now, max_age_ns=max_age_ns)
        if isinstance(reading, JointReading):
            return self.watch.by_axis(reading.positions)
        return np.full(len(self._settings.axes), np.nan)

    # --- why it stands ---

    def stopped(self, server: Condition | None) -> Condition | None:
        """Why nothing is asked for and nothing new is played; None if it is.

        Args:
            server: what keeps the server from answering; None if nothing does.
        """
        if self.watch.unready is not None and is_active(self.run):
            return Condition(
                State.FAULT, Cause.SETTINGS, self.watch.unready, resumes_by_itself=False
            )
        if is_ordered(self.run, Order.TAKEN):
            return self._unsafe()
        if server is not None and isinstance(self.run, Stopped):
            then = "; then call ~/reset to go on" if latched(self.run) is not None else ""
            return replace(server, message=server.message + then, resumes_by_itself=False)
        return server or self._unsafe()

    def _unsafe(self) -> Condition | None:
        told, waits = condition_of(self.run), self._leading.waits
        if told is not None and told.cause is Cause.TAKEOVER and waits is not None:
            told = replace(told, message=waits.message)
        stop = self.stop or self._clock.problem
        if stop is not None and not is_ordered(self.run, Order.INACTIVE, Order.PAUSED, Order.HELD):
            return holding(stop, resumes_by_itself=latched(self.run) is None)
        topics = self.watch.topic_problem
        return told or (holding(topics) if topics is not None else None)
