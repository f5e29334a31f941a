"""Owns time on the robot: which step of which chunk is due, and when the robot must hold.

Sans-IO: no clock, no ROS. `now` is an argument, integer nanoseconds on the clock of the stamps.

- `accept(chunk, now=, measured=)` takes a chunk: it becomes the running plan, or a reason to hold.
- `accept_first(chunk, ...)` plays the first steps of a chunk until `accept` gets the whole one.
  They never stop the robot: where they cannot be played, or the running plan lasts as long, nothing
  changes.
- `step(now)` says whether a plan runs at this moment, or why the robot holds.
- `hold(reason, now)` is the one way to stop; every refusal takes it too.
- `lead_back(now, measured)` leads the command of a robot that holds to an arm that did not follow.
- `motion` is what to command: the running plan, or the braking after it. It keeps to the limits of
  position, velocity, acceleration and jerk at every moment, also where one chunk takes over from
  another.

A chunk that comes while another one runs belongs to the moment of its observation: steps that have
passed are dropped. While the robot is at rest no step passes: a chunk observed at rest begins with
its step 0, however long inference took, and of one observed in motion only the steps up to the
moment of rest are dropped. Either way the chunk departs from what is commanded a moment from now,
`lead_ns`, so that a controller hears of it in time, or later where its method plays chunks out; how
it is joined to those before is the method's (`splice/methods.py`). Braking begins as much
later, for the same reason.

Plans and braking are made without a limit of jerk. What is commanded is their mean over a window of
time (`jerk_limit.py`), so both begin half of that window later.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.nanoseconds import SECOND, to_seconds
from openpi_flash_robot.play.chunk import Chunk, malformed, untimely
from openpi_flash_robot.play.columns import positions
from openpi_flash_robot.play.directions import along
from openpi_flash_robot.play.first_steps import FirstSteps
from openpi_flash_robot.play.follow import follow
from openpi_flash_robot.play.jerk_limit import JerkLimiter
from openpi_flash_robot.play.joint_limits import JointLimits, brake, can_stop
from openpi_flash_robot.play.motion import Motion, MotionState, rest
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.play.plan_limits import (
    is_narrower,
    limited_steps,
    limits_of,
    no_faster_than_asked,
)
from openpi_flash_robot.play.smooth_path import Polygon, SmoothPath
from openpi_flash_robot.play.splice.border import Border
from openpi_flash_robot.play.splice.fade import faded
from openpi_flash_robot.play.splice.methods import CHUNK_METHODS, RunningChunk
from openpi_flash_robot.play.splice.open_loop import played_out_ns
from openpi_flash_robot.play.splice.rtc import Continuation, continuation
from openpi_flash_robot.play.splice.timed_chunk import TimedChunk
from openpi_flash_robot.settings.node_settings import PlayerSettings

JOIN_NS = 100_000_000
"""How long a controller has to go from where it holds, which nobody knows, to where the robot is
measured, before a motion begins there."""

RETREAT_NS = 200_000_000
"""How long a command takes at least to go back to an arm that did not follow."""

LED_NS = 100_000_000
"""How far behind a person's hand the robot is led: the way of its motion to a target."""

ARRIVED = 5e-3
"""rad or m; a command that is nearer to the arm than this need not be led back."""

REMEMBERED_CHUNKS = 16
"""Chunks that an ensemble is made of at most."""

JERK_LIMIT_CHANGED = Hold(
    HoldKind.REQUESTED, "the limit of the jerk has changed; the robot stands before it counts"
)


@dataclass(frozen=True, eq=False)
class Targets:
    """What is commanded at one moment.

    Attributes:
        positions: [N], rad or m.
        velocities: [N], rad/s or m/s.
        sequence: of the chunk it comes from.
        steps_left: how many steps of the plan are still ahead.
    """

    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    sequence: int
    steps_left: int


class ChunkPlayer:
    """Plays one chunk after the other within the limits, and never a stale one."""

    def __init__(self, joints: tuple[str, ...], settings: PlayerSettings) -> None:
        self._joints = joints
        self._plan: Plan | None = None
        self._hold = Hold(HoldKind.WAITING, "waiting for the first chunk")
        self._held_since_ns = 0
        self._last_now = 0
        self._is_braking = False
        self._narrowed: Hold | None = None
        self._recent: deque[TimedChunk] = deque(maxlen=REMEMBERED_CHUNKS)
        self._asked: TimedChunk | None = None  # as the policy said it, rates as rates
        self._joined: TimedChunk | None = None
        self._first: FirstSteps | None = None
        self._settings = settings
        self._limits = self._braking = limits_of(settings)
        self._motion_acceleration = self._limits.acceleration
        self._jerk = JerkLimiter(settings.smoothing_ns)

    def update_settings(self, settings: PlayerSettings) -> None:
        """Use other limits from the next chunk on; a plan that narrower ones forbid is stopped."""
        self._settings = settings
        before, self._limits = self._limits, limits_of(settings)
        # a speed that was reached under other limits must not be braked more softly than by them
        hardest = np.maximum(self._motion_acceleration, self._limits.acceleration)
        self._jerk.next_ns = settings.smoothing_ns
        if self._jerk.delay_ns and not self._jerk.is_next:
            hardest = self._motion_acceleration  # what the jerk was limited for
        self._braking = replace(self._limits, acceleration=hardest)
        if self._plan is None:
            return
        if is_narrower(self._limits, before):
            self._narrowed = Hold(HoldKind.REQUESTED, "the limits have become narrower")
        elif not self._jerk.is_next:
            self._narrowed = JERK_LIMIT_CHANGED

    @property
    def plan(self) -> Plan | None:
        """The running plan; None while the robot holds."""
        return self._plan

    @property
    def held_since_ns(self) -> int:
        """When the robot came to hold, or a person last told it to; while it holds."""
        return self._held_since_ns

    @property
    def motion(self) -> Motion | None:
        """What is commanded, from the last chunk or hold on; None before the first chunk."""
        return self._jerk.commanded

    @property
    def lead_ns(self) -> int:
        """From now to where a chunk may depart from the running one, or braking may begin."""
        return self._settings.lead_ns + self._jerk.delay_ns

    def is_moving(self, at_ns: int) -> bool:
        """Whether anything was commanded to move at a moment, or later."""
        return self._jerk.commanded is not None and self._jerk.commanded.end_ns > at_ns

    @property
    def is_braking(self) -> bool:
        """Whether all that is left to command is to brake and stand."""
        return self._is_braking

    @property
    def limits(self) -> JointLimits:
        """What every joint may do now, braking included."""
        return self._braking

    def accept(
        self, chunk: Chunk, *, now: int, measured: NDArray[np.float64]
    ) -> Plan | Hold | None:
        """Make a chunk the running plan.

        Args:
            chunk: the answer.
            now: this moment.
            measured: where the axes are, [N]; matters only if the robot is at rest, and only of
                those that are measured.

        Returns:
            The plan that runs from now on, or why the robot holds instead. None: it has come to
            hold since the observation, and what it saw before does not start it again.
        """
        self.look(now)  # a plan that has ended must not be spliced onto
        reason = malformed(chunk, self._joints)
        if reason is None:
            max_age = self.max_age_ns(chunk.horizon, chunk.step_ns)
            reason = untimely(chunk, now, self._plan, max_age)
        if reason is None and self._plan is None and chunk.observation_ns < self._held_since_ns:
            return None
        if reason is None and not self._has_next_jerk_limit(now):
            reason = JERK_LIMIT_CHANGED
        if reason is None:
            max_age = self.max_age_ns(chunk.horizon, chunk.step_ns)
            planned = self._planned(chunk, now, measured, max_age, self._first_of(chunk))
            if isinstance(planned, Plan):
                self._plan, self._first = planned, None
                self._is_braking = False
                return planned
            reason = planned
        return self.hold(reason, now)

    def accept_first(
        self, chunk: Chunk, *, horizon: int, now: int, measured: NDArray[np.float64]
    ) -> Plan | None:
        """Play the first steps of a chunk; `accept` gets the whole one under the same sequence.

        Args:
            chunk: its first steps, which are final.
            horizon: steps of the whole chunk.
            now: this moment.
            measured: as for `accept`.

        Returns:
            The plan that runs from now on; None: nothing changes. So it is where the running plan
            lasts as long.
        """
        self.look(now)
        max_age_ns = self.max_age_ns(horizon, chunk.step_ns)
        if malformed(chunk, self._joints) or untimely(chunk, now, self._plan, max_age_ns):
            return None
        if self._plan is None:
            # it has come to hold since the observation, or waits for another limit of the jerk
            if chunk.observation_ns < self._held_since_ns or not self._has_next_jerk_limit(now):
                return None
            first = FirstSteps(chunk.sequence, (), None, None)
        else:
            lasts_ns = min((chunk.horizon - 1) * chunk.step_ns, max_age_ns)
            lasts_longer = self._plan.end_ns >= chunk.observation_ns + lasts_ns
            is_newer = self._plan.sequence < chunk.sequence
            if lasts_longer or not is_newer or not self._jerk.is_next:
                return None
            recent, takeover_ns = tuple(self._recent), self.takeover_ns
            first = FirstSteps(chunk.sequence, recent, self._joined, takeover_ns)
        planned = self._planned(chunk, now, measured, max_age_ns)
        if not isinstance(planned, Plan):
            return None
        self._plan, self._first = planned, first
        self._is_braking = False
        return planned

    def _first_of(self, chunk: Chunk) -> FirstSteps | None:
        """The first steps of this chunk, if they run."""
        first = self._first
        if first is None or self._plan is None:
            return None
        runs = self._plan.sequence == first.sequence == chunk.sequence
        return first if runs else None

    def step(self, now: int) -> Targets | Hold:
        """What is commanded now, or why the robot holds."""
        plan = self.look(now)
        if isinstance(plan, Hold):
            return plan
        here = plan.motion.sample(now)
        return Targets(here.positions, here.velocities, plan.sequence, plan.steps_after(now))

    def look(self, now: int) -> Plan | Hold:
        """The plan that is running now, or why the robot holds."""
        plan, last_now, self._last_now = self._plan, self._last_now, now
        set_back_ns = last_now - now
        if set_back_ns > 0:
            self._set_back(last_now, set_back_ns)
            plan = self._plan
        if plan is None:
            return self._hold
        if self._narrowed is not None:
            return self.hold(self._narrowed, now)
        if set_back_ns > plan.step_ns:
            message = f"the clock was set back by {to_seconds(set_back_ns):.2f} s"
            return self.hold(Hold(HoldKind.EXHAUSTED, message), now)
        if now > plan.end_ns:
            age = to_seconds(now - plan.observation_ns)
            return self.hold(
                Hold(
                    HoldKind.EXHAUSTED,
                    f"no newer chunk: the observation of chunk {plan.sequence} "
                    f"is {age:.2f} s old and its steps have ended",
                ),
                now,
            )
        return plan

    def _set_back(self, last_now: int, by_ns: int) -> None:
        """What was commanded until now belongs to moments that come again."""
        self._held_since_ns -= by_ns
        if self._first is not None:
            self._first = replace(self._first, takeover_ns=None)
        if self._jerk.planned is not None:
            self._jerk.take(self._jerk.kept(self._jerk.planned, last_now).shifted(-by_ns))
        if self._plan is not None and self._jerk.commanded is not None:
            plan = self._plan
            self._plan = replace(
                plan,
                motion=self._jerk.commanded,
                due_ns=plan.due_ns - by_ns,
                start_ns=plan.start_ns - by_ns,
            )

    def hold(self, reason: Hold, now: int) -> Hold:
        """Forget the running plan and brake along it; the next chunk starts from there."""
        self._brake(now)
        self._narrowed = None
        return self._stay(reason, now)

    def _brake(self, now: int) -> None:
        motion = self._jerk.planned
        if motion is not None and not self._is_braking:
            begin_ns = max(now + self.lead_ns, motion.start_ns)
            if motion.end_ns > begin_ns:
                tail = brake(motion.sample(begin_ns), begin_ns, 0, self._braking)
                self._jerk.take(motion.until(begin_ns, tail))
        self._is_braking = True

    def _has_next_jerk_limit(self, now: int) -> bool:
        """Whether the jerk is limited as the settings say: another limit begins at rest."""
        if not self._jerk.is_next and not self.is_moving(now):
            self._jerk.begin_next()
            self._braking = self._limits
        return self._jerk.is_next

    def _stay(self, reason: Hold, now: int) -> Hold:
        if self._plan is not None:
            self._held_since_ns = min(now, self._plan.end_ns)
        elif reason.kind is HoldKind.REQUESTED:
            self._held_since_ns = now
        self._plan = self._first = None
        self._hold = reason
        return reason

    def forget(self) -> None:
        """Others may have commanded the controllers: nobody knows where they hold the arm.

        The next chunk starts where the robot is measured.
        """
        self._jerk.forget()

    def lead_back(self, now: int, measured: NDArray[np.float64]) -> bool:
        """Lead the command of a robot that holds back to where its joints are; whether it does.

        An arm that has not followed must not spring to its command when it is released. Grippers
        and the like keep their command.

        Args:
            now: this moment.
            measured: where the joints are, at rest, [N]; where they were commanded to be lately.
        """
        near = np.asarray(self._settings.max_tracking_error)
        if self._plan is not None or self._jerk.commanded is None or self.is_moving(now):
            return False
        self._has_next_jerk_limit(now)
        here = self._jerk.commanded.sample(now).positions
        away = np.where(near > 0, np.abs(here - measured), 0.0)
        if not np.isfinite(away).all() or np.all(away <= ARRIVED):
            return False
        begin_ns = now + self.lead_ns
        motion = follow(
            MotionState.at_rest(here),
            begin_ns,
            np.array([begin_ns + RETREAT_NS], dtype=np.int64),
            np.where(near > 0, measured, here)[np.newaxis],
            smoothing_ns=RETREAT_NS,
            limits=self._limits,
        )
        self._jerk.take(motion)
        self._is_braking = False
        return True

    def lead_to(self, now: int, target: NDArray[np.float64]) -> None:
        """Lead a robot that holds to where a person wants it, at rest.

        Args:
            now: this moment.
            target: [N], rad or m; brought within the position limits.
        """
        assert self._plan is None, "a chunk is being played"
        assert self._jerk.planned is not None, "nothing was commanded yet"
        if not self._has_next_jerk_limit(now):
            self._brake(now)
            return
        begin_ns = max(now + self.lead_ns, self._jerk.planned.start_ns)
        motion = follow(
            self._jerk.planned.sample(begin_ns),
            begin_ns,
            np.array([begin_ns + LED_NS], dtype=np.int64),
            target[np.newaxis],
            smoothing_ns=LED_NS,
            limits=self._braking,
        )
        self._jerk.take(self._jerk.kept(self._jerk.planned, now).until(begin_ns, motion))
        self._is_braking = False

    def begin_at(self, measured: NDArray[np.float64], now: int) -> NDArray[np.float64]:
        """Where a motion that no chunk begins would begin, [N]: as commanded, or as measured."""
        if self._jerk.commanded is None:
            self._has_next_jerk_limit(now)
            self._jerk.take(rest(measured, now + JOIN_NS + self._jerk.delay_ns))
        assert self._jerk.commanded is not None
        return self._jerk.commanded.sample(now).positions

    def resume_from(self, played: Motion, reason: Hold, now: int) -> Hold:
        """Hold where controllers have come to without this process.

        Args:
            played: what they had, ending at rest.
            reason: why they had no more.
            now: this moment.
        """
        self._is_braking = True
        self._jerk.take_as_it_is(played.since(min(now, played.end_ns)))
        return self._stay(reason, now)

    def max_age_ns(self, horizon: int, step_ns: int) -> int:
        """How old the observation of a chunk of this length may be while it is played."""
        return self._settings.max_chunk_age_ns or horizon * step_ns // 2

    def _planned(
        self,
        chunk: Chunk,
        now: int,
        measured: NDArray[np.float64],
        max_age_ns: int,
        first: FirstSteps | None = None,
    ) -> Plan | Hold:
        """The plan from what is commanded a moment from now through the chunk's steps.

        Args:
            chunk: well-formed, and of this time.
            now: this moment.
            measured: as for `accept`.
            max_age_ns: how old the observation may be at the last step that is played.
            first: the chunk's first steps, if they run; the others then follow at their pace.
        """
        if self._plan is None:
            before = self._before_start(chunk, now, measured)
            if isinstance(before, Hold):
                return before
            begin_ns = max(now + self.lead_ns, before.start_ns)
            # a robot that still moves at the takeover has not rested: no step waits for it
            first_due_ns = begin_ns + chunk.step_ns - self._moved_ns(chunk)
            start_ns = max(first_due_ns, chunk.observation_ns)
        else:
            assert self._jerk.planned is not None, "a plan has a motion"
            before = self._jerk.planned
            takeover_ns = self.takeover_ns if first is None else first.takeover_ns
            begin_ns = max(now + self.lead_ns, before.start_ns, takeover_ns or 0)
            start_ns = chunk.observation_ns if first is None else self._plan.start_ns
        first_step = max(0, (begin_ns - start_ns) // chunk.step_ns + 1)
        deadline_ns = chunk.observation_ns + max_age_ns
        last_step = min(chunk.horizon - 1, (deadline_ns - start_ns) // chunk.step_ns)
        if last_step < first_step:
            return Hold(
                HoldKind.LATE,
                f"chunk {chunk.sequence} has no step left that is due before its observation is "
                f"{to_seconds(deadline_ns - chunk.observation_ns):.2f} s old",
            )
        start = before.sample(begin_ns)
        if self._plan is None:
            watched = np.asarray(self._settings.max_tracking_error) > 0
            here = np.where(watched, measured, start.positions)
            by_command = ~watched & (self._jerk.planned is not None and self._settings.is_commanded)
            if jump := self._start_jump(chunk, first_step, here, by_command):
                return jump
        steps = np.arange(first_step, last_step + 1, dtype=np.int64)
        due_ns = start_ns + steps * chunk.step_ns
        if first is not None:
            self._recent.clear()
            self._recent.extend(first.recent)
            self._joined = first.joined
        self._asked = TimedChunk(chunk.actions, start_ns, chunk.step_ns)
        where = positions(
            chunk.actions,
            chunk.rates,
            start_ns=start_ns,
            step_ns=chunk.step_ns,
            begin_ns=begin_ns,
            begin=start.positions,
        )
        raw = TimedChunk(where, start_ns, chunk.step_ns)
        desired = self._spliced(chunk, raw, before, begin_ns, due_ns)
        limits = self._limits if can_stop(start, self._limits) else self._braking
        self._braking, self._motion_acceleration = limits, limits.acceleration
        times = np.concatenate([[0.0], (due_ns - begin_ns) / SECOND])
        unlimited = Polygon(times, np.vstack([start.positions, desired]))
        shared = along(
            limits,
            np.asarray(self._settings.max_velocity),
            self._settings.directions,
            start_velocity=start.velocities,
            seconds=unlimited.times,
            positions=unlimited.positions,
        )
        after = follow(
            start,
            begin_ns,
            due_ns,
            desired,
            smoothing_ns=chunk.step_ns,
            limits=no_faster_than_asked(shared, chunk, first_step, last_step),
        )
        self._jerk.take(self._jerk.kept(before, now).until(begin_ns, after))
        assert self._jerk.commanded is not None
        return Plan(
            motion=self._jerk.commanded,
            due_ns=due_ns,
            step_ns=chunk.step_ns,
            start_ns=start_ns,
            first_step=first_step,
            observation_ns=chunk.observation_ns,
            sequence=chunk.sequence,
            limited_steps=limited_steps(
                SmoothPath(unlimited, to_seconds(chunk.step_ns)), after, due_ns, self._limits
            ),
        )

    def _before_start(self, chunk: Chunk, now: int, measured: NDArray[np.float64]) -> Motion | Hold:
        """What the robot does before a chunk that finds it holding.

        It stays where it was commanded to be, not where it sags to, if it was commanded and is
        there. Else its controllers get a moment to come to where it is.
        """
        motion, near = self._jerk.commanded, np.asarray(self._settings.max_tracking_error)
        is_measured = np.asarray(self._settings.measured or [True] * len(self._joints))
        if measured.shape != is_measured.shape or not np.isfinite(measured[is_measured]).all():
            return Hold(HoldKind.OBSERVATION, "the measured joint positions are not known")
        # an axis that nobody measures is where the chunk begins, or at nothing if that says how far
        unknown = np.where(chunk.rates or [False], 0.0, chunk.actions[0])
        measured = np.where(is_measured, measured, unknown)
        if motion is not None and self._settings.is_commanded:
            away = np.abs(motion.sample(now).positions - measured)
            if now < motion.end_ns or np.all((away <= near) | (near == 0.0)):
                assert self._jerk.planned is not None, "what is commanded is the mean of a motion"
                return self._jerk.planned
            # a gripper keeps its command, and with it what it holds
            measured = np.where(near > 0, measured, motion.sample(now).positions)
        return rest(measured, now + JOIN_NS + self._jerk.delay_ns)

    def _moved_ns(self, chunk: Chunk) -> int:
        """How long the robot, which holds now, still moved after the chunk's observation."""
        if self._jerk.commanded is None:
            return 0
        return max(0, self._jerk.commanded.end_ns - chunk.observation_ns)

    def _start_jump(
        self,
        chunk: Chunk,
        first_step: int,
        here: NDArray[np.float64],
        by_command: NDArray[np.bool_],
    ) -> Hold | None:
        """Why the robot cannot start from rest with this chunk.

        Args:
            chunk: well-formed.
            first_step: the first step that would be played.
            here: where the robot is, [N].
            by_command: whether that is where a joint was commanded to be, [N], and not measured.
        """
        first = np.clip(chunk.actions[first_step], self._limits.lower, self._limits.upper)
        # what says how fast to go starts wherever the axis is
        delta = np.where(chunk.rates or [False], 0.0, np.abs(first - here))
        excess = delta - np.asarray(self._settings.max_start_delta)
        worst = int(np.argmax(excess))
        if excess[worst] <= 0:
            return None
        position = "commanded" if by_command[worst] else "measured"
        return Hold(
            HoldKind.START_JUMP,
            f"chunk {chunk.sequence} starts {delta[worst]:.3f} away from the {position} position "
            f"of {self._joints[worst]}, max_start_delta is "
            f"{self._settings.max_start_delta[worst]:g}",
        )

    def _spliced(
        self,
        chunk: Chunk,
        raw: TimedChunk,
        before: Motion,
        begin_ns: int,
        due_ns: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Where the steps that are played want the joints to be, [K, N], and remember the chunk."""
        is_start = self._plan is None
        if is_start:
            self._recent.clear()
            self._joined = None
        self._recent.append(raw)
        # also those that would be played too late: later chunks are joined with them
        all_ns = np.arange(due_ns[0], raw.end_ns + 1, raw.step_ns, dtype=np.int64)
        own = raw.at(all_ns)
        border = Border(
            due_ns=all_ns,
            own=own,
            recent=tuple(self._recent),
            joined=self._joined,
            decay=self._settings.ensemble_decay,
        )
        method = CHUNK_METHODS[self._settings.chunk_method]
        joined = desired = own if is_start else method.join(border)
        if is_start or method.is_faded:
            desired = faded(before, begin_ns, all_ns, joined, self._settings.blend_ns)
        self._joined = TimedChunk(joined, int(all_ns[0]), raw.step_ns)
        if chunk.grippers:
            desired = np.where(np.asarray(chunk.grippers), own, desired)
        if chunk.rates:
            desired = np.where(np.asarray(chunk.rates), own, desired)
        return desired[: len(due_ns)]

    @property
    def takeover_ns(self) -> int | None:
        """When the next chunk takes over from the running plan; None: as soon as it has come."""
        if self._plan is None or not CHUNK_METHODS[self._settings.chunk_method].is_played_out:
            return None
        return played_out_ns(self._plan, self._settings.execution_horizon, self._limits)

    def continuation(
        self, observation_ns: int, takes_over_ns: int, execution_horizon: int
    ) -> Continuation | None:
        """What a request says of the running chunk; None if none runs, or another method does.

        Args:
            observation_ns: stamp of the request's observation.
            takes_over_ns: when its answer is expected to take over.
            execution_horizon: steps of the answer that will be played.
        """
        told = CHUNK_METHODS[self._settings.chunk_method].running_chunk
        if told is RunningChunk.UNTOLD or self._plan is None or self._asked is None:
            return None
        return continuation(
            self._asked,
            observation_ns,
            takes_over_ns,
            execution_horizon,
            is_prefix=told is RunningChunk.IS_PREFIX,
        )
