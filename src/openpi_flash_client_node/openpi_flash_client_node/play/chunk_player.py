"""Owns time on the robot: which step of which chunk is due, and when the robot must hold.

Sans-IO: no clock, no ROS. `now` is an argument, integer nanoseconds on the clock of the stamps.

- `accept(chunk, now=, measured=)` takes a chunk: it becomes the running plan, or a reason to hold.
- `step(now)` is what is commanded at this moment, or the reason to hold.
- `hold(reason, now)` is the one way to stop; every refusal takes it too.

A chunk that comes while another one runs belongs to the moment of its observation: steps that have
passed are dropped. While the robot is at rest no step passes:
a chunk observed at rest begins with its step 0, one step after `now`, however long inference took,
and of one observed in motion only the steps up to the moment of rest are dropped. Either way the
first point of the new plan is where the robot is commanded to be now, the steps are faded in, and
every further point passes the limits, so that a border is never a jump.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openpi_flash_client_node.hold import Hold, HoldKind
from openpi_flash_client_node.nanoseconds import to_seconds
from openpi_flash_client_node.play.limits import LimitChain, PositionLimit, VelocityLimit
from openpi_flash_client_node.play.plan import Plan
from openpi_flash_client_node.settings.node_settings import PlayerSettings


@dataclass(frozen=True, eq=False)
class Chunk:
    """A policy's answer.

    Attributes:
        actions: absolute joint targets [H, N] in the order of the joints, rad or m; not trusted.
        step_ns: spacing of the steps, > 0.
        observation_ns: stamp of the oldest input it was inferred from.
        sequence: its number.
    """

    actions: NDArray[np.float64]
    step_ns: int
    observation_ns: int
    sequence: int


@dataclass(frozen=True, eq=False)
class Targets:
    """What is commanded at one moment.

    Attributes:
        positions: [N], rad or m.
        sequence: of the chunk it comes from.
        steps_left: how many points of the plan are still ahead.
    """

    positions: NDArray[np.float64]
    sequence: int
    steps_left: int


class ChunkPlayer:
    """Plays one chunk after the other without a jump, and never a stale one."""

    def __init__(self, joints: tuple[str, ...], settings: PlayerSettings) -> None:
        self._joints = joints
        self._plan: Plan | None = None
        self._hold = Hold(HoldKind.WAITING, "waiting for the first chunk")
        self._at_rest_since_ns: int | None = None
        self._last_now = 0
        self.update_settings(settings)

    def update_settings(self, settings: PlayerSettings) -> None:
        """Use other limits from the next chunk on."""
        self._settings = settings
        self._position_limit = PositionLimit(settings.position_lower, settings.position_upper)
        self._limits = LimitChain([self._position_limit, VelocityLimit(settings.max_velocity)])

    @property
    def plan(self) -> Plan | None:
        """The running plan; None while the robot holds."""
        return self._plan

    def accept(self, chunk: Chunk, *, now: int, measured: NDArray[np.float64]) -> Plan | Hold:
        """Make a chunk the running plan.

        Args:
            chunk: the answer.
            now: this moment.
            measured: where the joints are, [N]; matters only if the robot is at rest.

        Returns:
            The plan that runs from now on, or why the robot holds instead.
        """
        self.step(now)  # a plan that has ended must not be spliced onto
        reason = self._objection(chunk, now)
        if reason is None:
            planned = self._planned(chunk, now, measured)
            if isinstance(planned, Plan):
                self._plan = planned
                return planned
            reason = planned
        return self.hold(reason, now)

    def step(self, now: int) -> Targets | Hold:
        """What is commanded now, or why nothing is."""
        plan, last_now, self._last_now = self._plan, self._last_now, now
        if plan is None:
            return self._hold
        if last_now - now > plan.step_ns:
            return self.hold(
                Hold(
                    HoldKind.EXHAUSTED,
                    f"the clock was set back by {to_seconds(last_now - now):.2f} s",
                ),
                now,
            )
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
        return Targets(plan.sample(now), plan.sequence, plan.steps_after(now))

    def hold(self, reason: Hold, now: int) -> Hold:
        """Forget the running plan; the next chunk starts from rest."""
        if self._plan is not None:
            self._at_rest_since_ns = min(now, self._plan.end_ns)
        self._plan = None
        self._hold = reason
        return reason

    def max_age_ns(self, horizon: int, step_ns: int) -> int:
        """How old the observation of a chunk of this length may be while it is played."""
        return self._settings.max_chunk_age_ns or horizon * step_ns // 2

    def _objection(self, chunk: Chunk, now: int) -> Hold | None:
        """Why this chunk cannot be played."""
        shape, columns = chunk.actions.shape, len(self._joints)
        if chunk.actions.ndim != 2 or shape[0] == 0 or shape[1] != columns:
            return Hold(
                HoldKind.BAD_CHUNK,
                f"chunk {chunk.sequence} has shape {list(shape)}, expected [steps, {columns}]",
            )
        finite = np.isfinite(chunk.actions)
        if not finite.all():
            step, column = (int(index) for index in np.argwhere(~finite)[0])
            return Hold(
                HoldKind.BAD_CHUNK,
                f"chunk {chunk.sequence} is not finite: step {step} of "
                f"{self._joints[column]} is {chunk.actions[step, column]}",
            )
        if chunk.step_ns <= 0:
            return Hold(
                HoldKind.BAD_CHUNK,
                f"chunk {chunk.sequence} has a step of {to_seconds(chunk.step_ns):g} s",
            )
        return self._time_objection(chunk, now)

    def _time_objection(self, chunk: Chunk, now: int) -> Hold | None:
        age, horizon = now - chunk.observation_ns, chunk.actions.shape[0]
        if age < -chunk.step_ns:
            return Hold(
                HoldKind.BAD_CHUNK,
                f"the observation of chunk {chunk.sequence} is {-to_seconds(age):.2f} s in the "
                f"future; synchronise the clocks of the cameras and of this computer",
            )
        if self._plan is not None and chunk.observation_ns < self._plan.observation_ns:
            return Hold(
                HoldKind.BAD_CHUNK,
                f"chunk {chunk.sequence} is older than the running chunk {self._plan.sequence}",
            )
        if age >= horizon * chunk.step_ns:
            return Hold(
                HoldKind.LATE,
                f"chunk {chunk.sequence} came {to_seconds(age):.2f} s after its observation, "
                f"later than its last step ({to_seconds(horizon * chunk.step_ns):.2f} s)",
            )
        max_age = self.max_age_ns(horizon, chunk.step_ns)
        if age > max_age:
            return Hold(
                HoldKind.LATE,
                f"chunk {chunk.sequence} came {to_seconds(age):.2f} s after its observation, "
                f"max_chunk_age is {to_seconds(max_age):.2f} s",
            )
        return None

    def _planned(self, chunk: Chunk, now: int, measured: NDArray[np.float64]) -> Plan | Hold:
        """The plan from where the robot is commanded to be now through the chunk's steps."""
        running = self._plan
        if running is None:
            anchor = np.array(measured, dtype=np.float64)
            start_ns = now + chunk.step_ns - self._moved_ns(chunk)
        else:
            anchor, start_ns = running.sample(now), chunk.observation_ns
        first_step = max(0, (now - start_ns) // chunk.step_ns + 1)
        horizon = chunk.actions.shape[0]
        deadline_ns = chunk.observation_ns + self.max_age_ns(horizon, chunk.step_ns)
        last_step = min(horizon - 1, (deadline_ns - start_ns) // chunk.step_ns)
        if last_step < first_step:
            return Hold(
                HoldKind.LATE,
                f"chunk {chunk.sequence} has no step left that is due before its observation is "
                f"{to_seconds(deadline_ns - chunk.observation_ns):.2f} s old",
            )
        if running is None:
            jump = self._start_jump(chunk, first_step, measured)
            if jump is not None:
                return jump
        steps = np.arange(first_step, last_step + 1, dtype=np.int64)
        times_ns = np.concatenate([[now], start_ns + steps * chunk.step_ns])
        desired = self._faded(anchor, chunk.actions[steps], times_ns)
        positions, limited_steps = self._limited(anchor, desired, times_ns)
        return Plan(
            times_ns=times_ns,
            positions=positions,
            step_ns=chunk.step_ns,
            start_ns=start_ns,
            first_step=first_step,
            observation_ns=chunk.observation_ns,
            sequence=chunk.sequence,
            limited_steps=limited_steps,
        )

    def _moved_ns(self, chunk: Chunk) -> int:
        """How long the robot, now at rest, still moved after the chunk's observation."""
        if self._at_rest_since_ns is None:
            return 0
        return max(0, self._at_rest_since_ns - chunk.observation_ns)

    def _start_jump(
        self, chunk: Chunk, first_step: int, measured: NDArray[np.float64]
    ) -> Hold | None:
        """Why the robot cannot start from rest with this chunk."""
        if measured.shape != (len(self._joints),) or not np.isfinite(measured).all():
            return Hold(HoldKind.OBSERVATION, "the measured joint positions are not known")
        action = chunk.actions[first_step]
        first = self._position_limit.enforce(measured, action, 0.0).positions
        delta = np.abs(first - measured)
        excess = delta - np.asarray(self._settings.max_start_delta)
        worst = int(np.argmax(excess))
        if excess[worst] <= 0:
            return None
        return Hold(
            HoldKind.START_JUMP,
            f"chunk {chunk.sequence} starts {delta[worst]:.3f} away from the measured position of "
            f"{self._joints[worst]}, max_start_delta is {self._settings.max_start_delta[worst]:g}",
        )

    def _faded(
        self,
        anchor: NDArray[np.float64],
        actions: NDArray[np.float64],
        times_ns: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """The chunk's steps, drawn towards the running plan, or rest, where the border is near."""
        faded, now = actions.copy(), int(times_ns[0])
        for index, due in enumerate(times_ns[1:].tolist()):
            if due - now >= self._settings.blend_ns:
                break
            weight = (due - now) / self._settings.blend_ns
            before = anchor if self._plan is None else self._plan.sample(due)
            faded[index] = (1.0 - weight) * before + weight * actions[index]
        return faded

    def _limited(
        self,
        anchor: NDArray[np.float64],
        desired: NDArray[np.float64],
        times_ns: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], int]:
        """Anchor and steps within the limits, and how many steps they have changed."""
        positions = np.empty((len(desired) + 1, len(anchor)), dtype=np.float64)
        positions[0] = anchor
        limited_steps = 0
        for index, gap_ns in enumerate(np.diff(times_ns).tolist()):
            limited = self._limits.enforce(positions[index], desired[index], to_seconds(gap_ns))
            positions[index + 1] = limited.positions
            limited_steps += limited.changed
        return positions, limited_steps
