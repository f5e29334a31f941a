"""What the bridge asks the node to do, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.bridge.chunk_description import ChunkDescription
from openpi_flash_robot.bridge.instruction import Instruction
from openpi_flash_robot.play.splice.rtc import Continuation
from openpi_flash_robot.play.trajectory import Trajectory
from openpi_flash_robot.senses.observation import Observation
from openpi_flash_robot.settings.controllers import Controller
from openpi_flash_robot.settings.server_contract import Agreement


@dataclass(frozen=True, eq=False)
class SendRequest:
    """Build a request from an observation and send it. Times are seconds.

    `continuation` is what it says of the running chunk; None if nothing. `first_actions` is how
    many steps it asks for ahead of the rest; 0 for none.
    """

    request_id: int
    observation: Observation[Any]
    agreement: Agreement
    timeout: float
    continuation: Continuation | None = None
    first_actions: int = 0


@dataclass(frozen=True)
class ResetPolicy:
    """Tell the policy to forget its state."""


@dataclass(frozen=True)
class Reconnect:
    """Connect again, to read the server's metadata again."""


@dataclass(frozen=True, eq=False)
class PublishChunk:
    """Publish a chunk that has become the running plan. Its numbers are the policy's.

    Attributes:
        start_ns: when step 0 is, or was, due.
        observation_ns: stamp of the oldest input.
        step_ns: spacing of the steps.
        sequence: its number; 0 for one that is only an answer.
        first_step: steps before this one have passed.
        actions: as the policy gave them, [H, N], before limits.
        instruction: what it was asked for.
        description: what its columns are, and what inferred it.
    """

    start_ns: int
    observation_ns: int
    step_ns: int
    sequence: int
    first_step: int
    actions: NDArray[np.float64]
    instruction: Instruction
    description: ChunkDescription


@dataclass(frozen=True, eq=False)
class AnswerChunk:
    """Answer who asked for one chunk.

    Attributes:
        chunk: None if there is none.
        message: why not; empty if there is one.
    """

    chunk: PublishChunk | None
    message: str


@dataclass(frozen=True, eq=False)
class PublishPlan:
    """Publish what has become of a chunk, within the limits: for people, not for controllers."""

    trajectory: Trajectory


@dataclass(frozen=True, eq=False)
class PublishTrajectory:
    """Command a controller."""

    controller: Controller
    trajectory: Trajectory


@dataclass(frozen=True)
class PublishSubtask:
    """Publish the planner's subtask.

    Attributes:
        stamp_ns: of the observation it was made from.
        text: empty if the planner failed.
        prompt: the instruction it was made for.
        sequence: its number.
        age: seconds since that stamp.
        error: why there is no subtask, or an old one; empty if all is well.
    """

    stamp_ns: int
    text: str
    prompt: str
    sequence: int
    age: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class PublishStats:
    """Publish what one inference cost. Times are seconds, NaN where unknown.

    `jpeg_quality`, `link_rate` and `link_queue` are those of `RequestCost`.
    `drop_reason` is a `DropReason`; `drop_counts` has one entry for each.
    """

    stamp_ns: int
    observation_ns: int
    observation_age: float
    camera_skew: float
    preprocess: float
    serialize: float
    network: float
    server: float
    total: float
    bytes_up: int
    bytes_down: int
    jpeg_quality: int
    link_rate: float
    link_queue: float
    steps_skipped: int
    sequence: int
    drop_reason: int
    inferences: int
    chunks_dropped: int
    deadline_misses: int
    drop_counts: tuple[int, ...]


@dataclass(frozen=True)
class Warn:
    """Log a warning."""

    message: str


Effect = (
    SendRequest
    | ResetPolicy
    | Reconnect
    | AnswerChunk
    | PublishChunk
    | PublishPlan
    | PublishTrajectory
    | PublishSubtask
    | PublishStats
    | Warn
)
