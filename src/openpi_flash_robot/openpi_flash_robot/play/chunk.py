"""A policy's answer, and why it cannot be played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.play.plan import Plan


@dataclass(frozen=True, eq=False)
class Chunk:
    """A policy's answer.

    Attributes:
        actions: [H, N] in the order of the axes, not trusted: where each should be at a step, rad
            or m, or how far it should go in a step.
        step_ns: spacing of the steps, > 0.
        observation_ns: stamp of the oldest input it was inferred from.
        sequence: its number.
        grippers: bool [N], whether a column is a gripper: such a one is neither faded nor averaged.
        rates: bool [N], whether a column says how far to go; empty for none.
    """

    actions: NDArray[np.float64]
    step_ns: int
    observation_ns: int
    sequence: int
    grippers: tuple[bool, ...] = ()
    rates: tuple[bool, ...] = ()

    @property
    def horizon(self) -> int:
        """How many steps it has."""
        return self.actions.shape[0]

    @property
    def length_ns(self) -> int:
        """How long it takes to play."""
        return self.horizon * self.step_ns


def malformed(chunk: Chunk, joints: Sequence[str]) -> Hold | None:
    """Why nothing can be made of a chunk's numbers; None if something can.

    Args:
        chunk: the answer.
        joints: what its columns are for.
    """
    shape = chunk.actions.shape
    if chunk.actions.ndim != 2 or shape[0] == 0 or shape[1] != len(joints):
        return Hold(
            HoldKind.BAD_CHUNK,
            f"chunk {chunk.sequence} has shape {list(shape)}, expected [steps, {len(joints)}]",
        )
    finite = np.isfinite(chunk.actions)
    if not finite.all():
        step, column = (int(index) for index in np.argwhere(~finite)[0])
        return Hold(
            HoldKind.BAD_CHUNK,
            f"chunk {chunk.sequence} is not finite: step {step} of "
            f"{joints[column]} is {chunk.actions[step, column]}",
        )
    if chunk.step_ns <= 0:
        return Hold(
            HoldKind.BAD_CHUNK,
            f"chunk {chunk.sequence} has a step of {to_seconds(chunk.step_ns):g} s",
        )
    return None


def untimely(chunk: Chunk, now: int, running: Plan | None, max_age_ns: int) -> Hold | None:
    """Why a chunk is of another time than this one; None if it is not.

    Args:
        chunk: well-formed.
        now: this moment.
        running: the plan that it would follow.
        max_age_ns: how old its observation may be.
    """
    age = now - chunk.observation_ns
    if age < -chunk.step_ns:
        return Hold(
            HoldKind.BAD_CHUNK,
            f"the observation of chunk {chunk.sequence} is {-to_seconds(age):.2f} s in the "
            f"future; synchronise the clocks of the cameras and of this computer",
        )
    if running is not None and chunk.observation_ns < running.observation_ns:
        return Hold(
            HoldKind.BAD_CHUNK,
            f"chunk {chunk.sequence} is older than the running chunk {running.sequence}",
        )
    if age >= chunk.length_ns:
        return Hold(
            HoldKind.LATE,
            f"chunk {chunk.sequence} came {to_seconds(age):.2f} s after its observation, "
            f"later than its last step ({to_seconds(chunk.length_ns):.2f} s)",
        )
    if age > max_age_ns:
        return Hold(
            HoldKind.LATE,
            f"chunk {chunk.sequence} came {to_seconds(age):.2f} s after its observation, "
            f"max_chunk_age is {to_seconds(max_age_ns):.2f} s",
        )
    return None
