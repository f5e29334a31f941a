"""What is recorded, apart from effects and events, which are recorded as they are.

A record holds no image of full size and no message of ROS: keeping it must keep nothing large.
What comes hundreds of times a second is a tuple, which is made in half the time of a dataclass,
and holds bytes rather than lists (`ring.py` says why).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.black_box.ring import Entry
from openpi_flash_robot.bridge.effects import (
    PublishChunk,
    PublishPlan,
    PublishStats,
    PublishSubtask,
    PublishTrajectory,
    Warn,
)
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.link.events import LinkDown, RequestCost, RequestFailure


class ImageArrived(NamedTuple):
    """An image of a camera has arrived.

    Attributes:
        camera: its name.
        stamp_ns: of the header.
    """

    camera: str
    stamp_ns: int


@dataclass(frozen=True)
class SmallFrame:
    """What a camera saw, made small.

    Attributes:
        camera: its name.
        stamp_ns: of the header.
        jpeg: RGB, at most `frame_encoder.LONGEST_SIDE` pixels wide and high.
    """

    camera: str
    stamp_ns: int
    jpeg: bytes


class JointsArrived(NamedTuple):
    """A joint state has arrived; units as in sensor_msgs/JointState.

    Attributes:
        stamp_ns: of the header.
        names: of its joints.
        positions: rad or m, as many as the driver gave; float64 as bytes, as the others.
        velocities: rad/s or m/s; empty where the driver gives none.
        efforts: N m or N; empty where the driver gives none.
    """

    stamp_ns: int
    names: tuple[str, ...]
    positions: bytes
    velocities: bytes
    efforts: bytes


@dataclass(frozen=True)
class StopHeard:
    """A message of an emergency stop, an enabling or a hold switch."""

    topic: str
    value: bool


@dataclass(frozen=True, eq=False)
class RequestSent:
    """A request has been handed to the link.

    Attributes:
        request_id: comes back in the answer.
        image_stamps_ns: stamp of each camera's image in it.
        joints_ns: stamp of the joint positions in it.
        positions: the joint positions in it, [N], rad or m.
        prompt: the instruction in it.
        timeout: seconds for the answer.
        is_continuation: whether it asks for a chunk that goes on from the running one.
    """

    request_id: int
    image_stamps_ns: Mapping[str, int]
    joints_ns: int
    positions: NDArray[np.float64]
    prompt: str
    timeout: float
    is_continuation: bool


@dataclass(frozen=True, eq=False)
class Answered:
    """A request was answered.

    Attributes:
        request_id: of the request.
        actions: the raw actions, [H, columns of the server]; None if they are no array of numbers,
            or a very large one.
        description: of the raw actions, such as "float32 [50, 32]".
        preprocess_s: decoding and resizing of the request's images.
        total_s: from handing the request to the link to holding the answer.
        cost: what the call cost.
    """

    request_id: int
    actions: NDArray[Any] | None
    description: str
    preprocess_s: float
    total_s: float
    cost: RequestCost


@dataclass(frozen=True)
class ServerFound:
    """There is a connection; what the server says of itself, as text."""

    metadata: str


@dataclass(frozen=True)
class SettingsTaken:
    """The node's settings, without secrets, in a form for JSON."""

    values: Mapping[str, Any]


Record = (
    ImageArrived
    | SmallFrame
    | JointsArrived
    | StopHeard
    | RequestSent
    | Answered
    | RequestFailure
    | ServerFound
    | LinkDown
    | PublishChunk
    | PublishPlan
    | PublishTrajectory
    | PublishSubtask
    | PublishStats
    | Status
    | Warn
    | SettingsTaken
)


@dataclass(frozen=True, eq=False)
class Recording:
    """What one file holds.

    Attributes:
        node: full name of the node.
        joints: names of those that are measured.
        axes: names of what is commanded.
        cause: why it is written, such as "tracking" or "request".
        standing: what was said before the entries begin and still held then: settings, server.
        entries: everything that came, oldest first.
        dropped: entries that did not fit into the memory of the black box.
    """

    node: str
    joints: tuple[str, ...]
    axes: tuple[str, ...]
    cause: str
    standing: tuple[Record, ...]
    entries: tuple[Entry[Record], ...]
    dropped: int
