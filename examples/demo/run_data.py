"""What the demo has seen, as plain numbers. Times are seconds since the run began, unless said."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class State(enum.IntEnum):
    """`openpi_flash_msgs/PolicyStatus.state`."""

    DISCONNECTED = 0
    CONNECTING = 1
    PAUSED = 2
    RUNNING = 3
    HOLDING = 4
    FAULT = 5


@dataclass(frozen=True)
class Chunk:
    """One ActionChunk."""

    received: float
    observed: float
    """The observation's stamp."""
    start: float
    """When step 0 is due."""
    step: float
    """Seconds between steps."""
    first_step: int
    sequence: int
    values: Array
    """[steps, joints], rad."""

    @property
    def due(self) -> Array:
        """When each step is due, [steps]."""
        return self.start + self.step * np.arange(len(self.values), dtype=np.float64)


@dataclass(frozen=True)
class Trajectory:
    """One JointTrajectory."""

    received: float
    start: float | None
    """When `times_from_start` count from, by its stamp; None: from reception."""
    times_from_start: Array
    """[points]"""
    positions: Array
    """[points, joints], columns in the run's order of joints."""
    velocities: Array
    """[points, joints], or [points, 0] without."""


@dataclass(frozen=True)
class Inference:
    """One InferenceStats; durations in seconds."""

    received: float
    observation_age: float
    camera_skew: float
    preprocess: float
    serialize: float
    network: float
    server: float
    total: float
    bytes_up: int
    bytes_down: int
    steps_skipped: int
    chunks_dropped: int
    deadline_misses: int


@dataclass(frozen=True)
class Status:
    """One PolicyStatus."""

    received: float
    state: State
    dry_run: bool
    transport: str
    server: str
    chunk_age: float
    steps_buffered: int
    message: str


@dataclass(frozen=True)
class Subtask:
    """One Subtask."""

    received: float
    text: str


@dataclass(frozen=True)
class Episode:
    """One episode that has ended."""

    ended: float
    prompt: str
    start: int
    """Number of its start."""
    is_success: bool
    seconds: float
    """From when the robot was let go to success, or the time limit."""


@dataclass(frozen=True)
class JointTrack:
    """Joint positions over time, by their stamps."""

    times: Array
    """[samples]"""
    positions: Array
    """[samples, joints], rad."""


@dataclass(frozen=True)
class RunData:
    """One run. `since` cuts off what came before the robot ran."""

    joints: Sequence[str]
    seconds: float
    """How long it was watched."""
    transport: str
    prompt: str
    chunks: Sequence[Chunk]
    trajectories: Sequence[Trajectory]
    inferences: Sequence[Inference]
    statuses: Sequence[Status]
    subtasks: Sequence[Subtask]
    measured: JointTrack
    reference: JointTrack
    """Where the controller says the joints should be."""
    images: Mapping[str, int]
    """Pictures received, by camera."""
    exit_codes: Mapping[str, int]
    is_judged: bool = False
    """Whether episodes of a task were played: between two of them the node is not active."""
    episodes: Sequence[Episode] = ()
    placed: Sequence[float] = ()
    """When the arm was put to a new start at once: the stamps of the first joint states there."""
    has_planner: bool = True


def since(run: RunData, began: float) -> RunData:
    """Return what a run holds from a moment on, with that moment as its zero.

    The newest subtask from before counts as heard at the beginning: the topic is latched.
    """
    before = [subtask for subtask in run.subtasks if subtask.received < began]
    kept = [subtask for subtask in run.subtasks if subtask.received >= began]
    return replace(
        run,
        seconds=run.seconds - began,
        chunks=tuple(
            replace(
                chunk,
                received=chunk.received - began,
                observed=chunk.observed - began,
                start=chunk.start - began,
            )
            for chunk in run.chunks
            if chunk.received >= began
        ),
        trajectories=tuple(
            replace(t, start=None if t.start is None else t.start - began)
            for t in _later(run.trajectories, began)
        ),
        inferences=tuple(_later(run.inferences, began)),
        statuses=tuple(_later(run.statuses, began)),
        subtasks=(
            *(replace(subtask, received=0.0) for subtask in before[-1:]),
            *_later(kept, began),
        ),
        episodes=tuple(
            replace(episode, ended=episode.ended - began)
            for episode in run.episodes
            if episode.ended >= began
        ),
        placed=tuple(at - began for at in run.placed if at >= began),
        measured=_track_since(run.measured, began),
        reference=_track_since(run.reference, began),
    )


_Received = TypeVar("_Received", Trajectory, Inference, Status, Subtask)


def _later(items: Sequence[_Received], began: float) -> Iterator[_Received]:
    for item in items:
        if item.received >= began:
            yield replace(item, received=item.received - began)


def _track_since(track: JointTrack, began: float) -> JointTrack:
    kept = track.times >= began
    return JointTrack(track.times[kept] - began, track.positions[kept])
