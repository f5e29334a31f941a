"""A session of Positronic's API (version 1) as a policy's connection: docs/positronic.md.

The arm sends its hand's pose, its joints and its grip, and plays `cartesian_pos` by its closed-form
kinematics, `joint_pos` where it has six joints. A grip of 1 is closed, as on the arm.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from flash_transport import Disconnected, ServerError, packb, unpackb
from flash_transport.address import parse_address
from flash_transport.stats import CallStats
from openpi_flash_training.evaluation.policy import expert_metadata
from openpi_flash_training.live.hand_rotation import pose_for, quaternion_wxyz, rotation_of
from openpi_flash_training.live.whole_chunks import WholeChunks
from sim_robot.kinematics import UnreachableError, joints_for, pose_of
from sim_robot.robot import JOINTS

PORT = 8000
LARGEST_BYTES = 16 << 20


class PositronicSession(WholeChunks):
    """One session; for one thread.

    Args:
        server: HOST or HOST:PORT.
        connect_timeout: seconds.
        ready_timeout: seconds between two frames of a session that waits for its checkpoint.

    Raises:
        Disconnected: nobody listens there, or not to sessions.
        ServerError: the session is refused.
    """

    def __init__(
        self, server: str, connect_timeout: float = 10.0, ready_timeout: float = 30.0
    ) -> None:
        host, port = parse_address(server, None).with_default(PORT)
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._place, self._held = place, contextlib.ExitStack()
        try:
            self._socket = self._held.enter_context(
                connect(
                    f"ws://{place}/api/v1/session",
                    open_timeout=connect_timeout,
                    max_size=LARGEST_BYTES,
                    compression=None,
                    proxy=None,
                )
            )
        except (OSError, WebSocketException) as error:
            raise Disconnected(f"{place} has no session for this arm: {error}") from error
        frame = self._receive(ready_timeout)
        while frame.get("status") in ("loading", "waiting"):
            frame = self._receive(ready_timeout)
        if frame.get("status") != "ready":
            self.close()
            raise ServerError("refused", str(frame.get("error", frame)))
        self._meta: dict[str, Any] = dict(frame.get("meta") or {})

    def infer_with_stats(
        self, observation: dict[str, Any], timeout: float | None = None
    ) -> tuple[dict[str, Any], CallStats]:
        """The session's chunk, as absolute joint positions [H, 7]."""
        began = time.monotonic()
        joints = np.asarray(observation["observation/state"], np.float64)
        message = packb(session_observation(observation, joints))
        packed = time.monotonic()
        try:
            self._socket.send(message)
        except (OSError, WebSocketException) as error:
            raise Disconnected(f"{self._place}: {error}") from error
        answer = self._receive(timeout)
        if "result" not in answer:
            raise ServerError("internal", str(answer.get("error", answer)))
        stats = CallStats(
            1e3 * (packed - began), 1e3 * (time.monotonic() - packed), len(message), 0, 0
        )
        return {"actions": joint_chunk(answer["result"], joints)}, stats

    def get_server_metadata(self) -> dict[str, Any]:
        """What the chunks are, in the words of openpi-flash's own metadata."""
        rate = float(self._meta.get("action_fps") or 15.0)
        metadata = expert_metadata(rate, round(rate * self._meta.get("action_horizon_sec", 1.0)))
        metadata["model"] = str(self._meta.get("config_name") or self._meta.get("type") or "")
        # a chunk may be shorter than the horizon
        del metadata["action_horizon"]
        return metadata

    def reset(self) -> None:
        """Sessions have no reset: each episode has a connection of its own."""

    def close(self) -> None:
        """End the session."""
        self._held.close()

    def _receive(self, timeout: float | None) -> dict[str, Any]:
        try:
            frame = self._socket.recv(timeout)
        except TimeoutError as error:
            self.close()  # a late answer would belong to another observation
            raise Disconnected(f"{self._place} was silent for {timeout:g} s") from error
        except (OSError, WebSocketException) as error:
            raise Disconnected(f"{self._place}: {error}") from error
        answer = unpackb(frame) if isinstance(frame, bytes) else None
        if not isinstance(answer, dict):
            raise ServerError("internal", "the session sent a frame that is no map")
        return answer


def session_observation(
    observation: Mapping[str, Any], joints: NDArray[np.float64]
) -> dict[str, Any]:
    """What a session reads of a request of the arm."""
    pose = pose_of(tuple(joints))
    quaternion = quaternion_wxyz(rotation_of(pose, float(joints[0])))
    return {
        "robot_state.q": joints[:-1].astype(np.float32),
        "robot_state.dq": np.zeros(len(joints) - 1, np.float32),
        "robot_state.ee_pose": np.concatenate([pose.point, quaternion]),
        "grip": float(joints[-1]),
        "image.exterior": observation["observation/scene_image"],
        "image.wrist": observation["observation/wrist_image"],
        "task": observation.get("prompt", ""),
    }


def joint_chunk(rows: Sequence[Mapping[str, Any]], joints: NDArray[np.float64]) -> Any:
    """The rows of a chunk as joint positions, [H, 7]; what is out of reach stays where it was.

    Raises:
        ServerError: a row commands something that this arm has not.
    """
    chunk, arm = [], tuple(joints[:-1])
    for row in rows:
        command = row.get("robot_command") or {}
        kind = command.get("type")
        if kind == "cartesian_pos":
            pose = np.asarray(command["pose"], np.float64)
            with contextlib.suppress(UnreachableError):
                arm = joints_for(pose_for(pose[:3], pose[3:12].reshape(3, 3)))
        elif kind == "joint_pos" and len(command["positions"]) == len(JOINTS) - 1:
            arm = tuple(float(value) for value in command["positions"])
        else:
            raise ServerError("internal", f"the arm does not play {kind!r} of this session")
        chunk.append((*arm, float(row["target_grip"])))
    return np.array(chunk).reshape(len(chunk), len(JOINTS))
