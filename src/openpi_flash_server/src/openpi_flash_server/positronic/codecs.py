"""Positronic's six OpenPI codecs: its observations to openpi's, and a chunk to its commands. Pure.

An observation has flat names with dots (`robot_state.ee_pose`). Quaternions are wxyz, scalar first.
Source: `positronic/vendors/openpi/codecs.py` at edd89d49, measured by instantiating each codec. Its
`droid` sends one vector of 8 where openpi's DROID policy reads 7 joints and 1 gripper apart; here
they are apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from flash_transport import resize_with_pad
from openpi_flash_models.errors import ModelOutputError, ObservationError

CodecName = Literal["ee", "ee_joints", "ee_traj", "ee_joints_traj", "joints_traj", "droid"]
Command = Literal["cartesian_pos", "joint_pos", "joint_delta"]

IMAGE_SIDE = 224
"""Pixels of an image's sides."""

GRIP = "grip"


@dataclass(frozen=True)
class Codec:
    """How observations are read and actions are written.

    Attributes:
        states: key of openpi's observation -> the parts of Positronic's that are joined there.
        cameras: key of openpi's observation -> Positronic's camera.
        command: the kind of command that the first seven numbers of an action are.
        binarises_grip: whether a grip above 0.5 closes fully, and others open fully.
    """

    states: tuple[tuple[str, tuple[str, ...]], ...]
    cameras: tuple[tuple[str, str], ...]
    command: Command
    binarises_grip: bool


@dataclass(frozen=True)
class ChunkTiming:
    """How much of a chunk is sent.

    Attributes:
        fps: rows per second.
        horizon_sec: rows from here on are left out, s.
    """

    fps: float = 15.0
    horizon_sec: float = 1.0

    def rows(self, horizon: int) -> int:
        """How many of a chunk's `horizon` rows are sent; at least one."""
        # a row at the horizon itself is left out, whatever the rounding of the product
        count = int(np.ceil(self.horizon_sec * self.fps - 1e-9))
        return min(max(count, 1), horizon)


def encode_observation(
    codec: Codec, observation: Mapping[str, Any], *, flip_grip: bool
) -> dict[str, Any]:
    """Writes an observation with openpi's keys.

    Args:
        codec: which keys.
        observation: Positronic's; what the codec does not name is left out.
        flip_grip: whether the policy's grip is 1 for open, where Positronic's is 0.

    Returns:
        States float32 [n], images uint8 [224, 224, 3], and `prompt` where there is a `task`.

    Raises:
        ObservationError: a key is missing, or holds something else.
    """
    encoded: dict[str, Any] = {
        key: np.concatenate([_numbers(observation, part, flip_grip=flip_grip) for part in parts])
        for key, parts in codec.states
    }
    for key, camera in codec.cameras:
        encoded[key] = _image(observation, camera)
    task = observation.get("task")
    if task is not None:
        if not isinstance(task, str):
            raise ObservationError("task", f"expected text, got {type(task).__name__}")
        encoded["prompt"] = task
    return encoded


def decode_actions(
    codec: Codec, actions: np.ndarray, timing: ChunkTiming, *, flip_grip: bool
) -> list[dict[str, Any]]:
    """Positronic's actions of a chunk.

    Args:
        codec: which commands.
        actions: [H, D], D at least 8: seven numbers of the command, and the grip.
        timing: how many rows, and when.
        flip_grip: as of `encode_observation`.

    Raises:
        ModelOutputError: the chunk has fewer than 8 columns, or a quaternion has no direction.
    """
    if actions.ndim != 2 or actions.shape[0] < 1 or actions.shape[1] < _WIDTH:
        raise ModelOutputError(
            f"the codec needs actions [steps, {_WIDTH} or more], the policy answers "
            f"{list(actions.shape)}"
        )
    rows = np.asarray(actions[: timing.rows(len(actions)), :_WIDTH], dtype=np.float64)
    return [
        {
            "robot_command": _command(codec.command, row[:7]),
            "target_grip": _grip(float(row[7]), codec, flip_grip=flip_grip),
            "timestamp": index / timing.fps,
        }
        for index, row in enumerate(rows)
    ]


def _numbers(observation: Mapping[str, Any], key: str, *, flip_grip: bool) -> np.ndarray:
    value = _required(observation, key)
    size = _SIZES[key]
    try:
        numbers = np.asarray(value, dtype=np.float32).reshape(-1)
    except (TypeError, ValueError) as error:
        raise ObservationError(key, f"expected {size} numbers, got {type(value).__name__}") from (
            error
        )
    if numbers.shape != (size,):
        raise ObservationError(key, f"expected {size} numbers, got {numbers.size}")
    return 1 - numbers if flip_grip and key == GRIP else numbers


def _image(observation: Mapping[str, Any], key: str) -> np.ndarray:
    value = _required(observation, key)
    is_image = isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3
    if not is_image or value.shape[2] != 3 or 0 in value.shape:
        got = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value)
        raise ObservationError(key, f"expected uint8 [height, width, 3], got {got}")
    return resize_with_pad(value, IMAGE_SIDE, IMAGE_SIDE)


def _required(observation: Mapping[str, Any], key: str) -> Any:
    if key not in observation:
        present = ", ".join(sorted(str(name)[:40] for name in observation)[:20])
        raise ObservationError(key, f"missing; the observation has {present or 'nothing'}")
    return observation[key]


def _command(kind: Command, numbers: np.ndarray) -> dict[str, Any]:
    if kind == "joint_pos":
        return {"type": kind, "positions": numbers}
    if kind == "joint_delta":
        return {"type": kind, "velocities": np.clip(numbers, -1.0, 1.0) * _GREATEST_STEP}
    pose = np.concatenate([numbers[:3], rotation_matrix(numbers[3:]).reshape(-1)])
    return {"type": kind, "pose": pose}


def rotation_matrix(wxyz: np.ndarray) -> np.ndarray:
    """The rotation [3, 3] of a quaternion of any length above zero.

    Raises:
        ModelOutputError: it has no length.
    """
    length = float(np.linalg.norm(wxyz))
    if not length > _SHORTEST:
        raise ModelOutputError(f"a quaternion has the length {length:g}, so no direction")
    w, x, y, z = wxyz / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _grip(value: float, codec: Codec, *, flip_grip: bool) -> float:
    closed = 1 - value if flip_grip else value
    if codec.binarises_grip:
        return 1.0 if closed > _HALF_CLOSED else 0.0
    return closed


_POSE, _JOINTS = "robot_state.ee_pose", "robot_state.q"
_SIZES = {_POSE: 7, _JOINTS: 7, GRIP: 1}
_WIDTH = 8
_GREATEST_STEP = 0.2
"""rad of a joint for an action of 1: DROID's greatest step."""
_HALF_CLOSED = 0.5
_SHORTEST = 1e-6

_STATE = "observation/state"
_CAMERAS = (("observation/wrist_image", "image.wrist"), ("observation/image", "image.exterior"))
_DROID_CAMERAS = (
    ("observation/wrist_image_left", "image.wrist"),
    ("observation/exterior_image_1_left", "image.exterior"),
)

CODECS: Mapping[CodecName, Codec] = {
    "ee": Codec(((_STATE, (_POSE, GRIP)),), _CAMERAS, "cartesian_pos", False),
    "ee_joints": Codec(((_STATE, (_POSE, GRIP, _JOINTS)),), _CAMERAS, "cartesian_pos", False),
    "ee_traj": Codec(((_STATE, (_POSE, GRIP)),), _CAMERAS, "cartesian_pos", True),
    "ee_joints_traj": Codec(((_STATE, (_POSE, GRIP, _JOINTS)),), _CAMERAS, "cartesian_pos", True),
    "joints_traj": Codec(((_STATE, (_JOINTS, GRIP)),), _CAMERAS, "joint_pos", True),
    "droid": Codec(
        (("observation/joint_position", (_JOINTS,)), ("observation/gripper_position", (GRIP,))),
        _DROID_CAMERAS,
        "joint_delta",
        True,
    ),
}
"""By Positronic's names."""
