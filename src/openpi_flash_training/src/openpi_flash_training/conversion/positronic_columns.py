"""Columns of Positronic's six OpenPI codecs, as its ``to_lerobot`` writes them.

Quaternions are wxyz, scalar first. ``droid`` has no training columns there; here it has DROID's: 7
joints and the gripper, and the joints' velocities as shares of DROID's greatest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from openpi_flash_training.conversion.columns import (
    ACTION,
    IMAGES,
    STATE,
    ColumnPlan,
    Source,
    need,
    need_cameras,
)
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.episodes.recorded import RecordedEpisode

POSE, JOINTS, GRIP = "robot_state.ee_pose", "robot_state.q", "grip"
COMMANDED_POSES = ("robot_commands.pose", "robot_command.pose")
"""The name changed; recordings have one or the other."""
TARGET_GRIP = "target_grip"
_CAMERAS = {f"{IMAGES}left": "image.wrist", f"{IMAGES}side": "image.exterior"}
_DROID_CAMERAS = {
    f"{IMAGES}exterior_image_1_left": "image.exterior",
    f"{IMAGES}wrist_image_left": "image.wrist",
}
_SIZES = {POSE: 7, JOINTS: 7, GRIP: 1, TARGET_GRIP: 1}
_DROID_GREATEST_RATE = 3.0
"""rad/s of DROID's velocity 1: 0.2 rad in a step of 1/15 s."""


@dataclass(frozen=True)
class TrainingCodec:
    """One codec.

    Attributes:
        state: streams that are joined to the state.
        action: streams that are joined to the action; empty: the commanded pose and grip.
        binarises_grip: whether a grip above 0.5 is 1, and others 0, in state and action.
        is_droid: whether actions are velocities of the joints.
    """

    state: tuple[str, ...]
    action: tuple[str, ...] = ()
    binarises_grip: bool = False
    is_droid: bool = False


CODECS = {
    "ee": TrainingCodec((POSE, GRIP)),
    "ee_joints": TrainingCodec((POSE, GRIP, JOINTS)),
    "ee_traj": TrainingCodec((POSE, GRIP), (POSE, GRIP), binarises_grip=True),
    "ee_joints_traj": TrainingCodec((POSE, GRIP, JOINTS), (POSE, GRIP), binarises_grip=True),
    "joints_traj": TrainingCodec((JOINTS, GRIP), (JOINTS, GRIP), binarises_grip=True),
    "droid": TrainingCodec((JOINTS, GRIP), (JOINTS, GRIP), is_droid=True),
}
"""The codecs by name."""
POSITRONIC_IMAGE = (224, 224)


def positronic_plan(
    episode: RecordedEpisode,
    codec: TrainingCodec,
    *,
    flip_grip: bool,
    image_size: tuple[int, int] | None,
) -> ColumnPlan:
    """The columns of an episode.

    Args:
        episode: recorded by Positronic.
        codec: which columns.
        flip_grip: whether the recording's grip is 1 for open, where the dataset's is 0.
        image_size: height and width of images; None: 224 by 224, as Positronic has them.

    Raises:
        DataError: the episode lacks a stream or a camera, or one has another size.
    """
    action = codec.action or (_commanded_pose(episode), TARGET_GRIP)
    need(episode, [*codec.state, *action])
    for stream in (*codec.state, *action):
        size = episode.numbers[stream].values.shape[1]
        if size != _SIZES.get(stream, 7):
            raise DataError(episode.source, f"{stream} has {size} numbers, expected 7 or 1")
    cameras = _DROID_CAMERAS if codec.is_droid else _CAMERAS
    need_cameras(episode, list(cameras.values()))
    state = tuple(s for stream in codec.state for s in _sources(stream, flip_grip=flip_grip))
    actions = tuple(
        s
        for stream in action
        for s in _sources(stream, flip_grip=flip_grip, is_rate=codec.is_droid and stream == JOINTS)
    )
    after: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    if codec.binarises_grip:
        at = _grip_index(codec.state)
        after = {STATE: _binarised(at), ACTION: _binarised(_grip_index(action))}
    return ColumnPlan(
        numbers={STATE: state, ACTION: actions},
        names={STATE: _names(codec.state), ACTION: _names(action)},
        cameras=cameras,
        image_size=image_size or POSITRONIC_IMAGE,
        after=after,
    )


def _commanded_pose(episode: RecordedEpisode) -> str:
    return next((s for s in COMMANDED_POSES if s in episode.numbers), COMMANDED_POSES[0])


def _sources(stream: str, *, flip_grip: bool, is_rate: bool = False) -> list[Source]:
    if stream in (GRIP, TARGET_GRIP):
        return [Source(stream, scale=-1.0, offset=1.0) if flip_grip else Source(stream)]
    scale = 1.0 / _DROID_GREATEST_RATE if is_rate else 1.0
    change: Literal["", "per_second"] = "per_second" if is_rate else ""
    return [Source(stream, i, scale, change=change) for i in range(_SIZES.get(stream, 7))]


def _grip_index(streams: tuple[str, ...]) -> int:
    index = 0
    for stream in streams:
        if stream in (GRIP, TARGET_GRIP):
            break
        index += _SIZES.get(stream, 7)
    return index


def _binarised(index: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        changed = values.copy()
        changed[:, index] = values[:, index] > 0.5
        return changed

    return change


def _names(streams: tuple[str, ...]) -> tuple[str, ...]:
    """Names of single numbers; Positronic names the joined streams only."""
    names = []
    for stream in streams:
        size = _SIZES.get(stream, 7)
        if stream == POSE or stream in COMMANDED_POSES:
            names += ["x", "y", "z", "qw", "qx", "qy", "qz"]
        elif size == 1:
            names.append("grip")
        else:
            names += [f"joint_{i}" for i in range(1, size + 1)]
    return tuple(names)
