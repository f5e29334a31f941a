"""Recordings of a small arm with ROS messages: rosbag2 (SQLite, MCAP) and single MCAP files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from PIL import Image
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as BagWriter
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND
JOINTS = (
    "shoulder_pan",
    "shoulder_lift",
    "elbow",
    "wrist_pitch",
    "wrist_yaw",
    "wrist_roll",
    "gripper",
)
TYPES = {
    "/scene_camera/image_raw": "sensor_msgs/msg/Image",
    "/wrist_camera/image_raw/compressed": "sensor_msgs/msg/CompressedImage",
    "/joint_states": "sensor_msgs/msg/JointState",
    "/arm_controller/joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
    "/openpi/prompt": "std_msgs/msg/String",
    "/openpi/subtask": "std_msgs/msg/String",
    "/openpi/intervention": "std_msgs/msg/Bool",
}


@dataclass(frozen=True)
class Sent:
    """A message and when it was recorded, ns."""

    topic: str
    received: int
    message: Any


@dataclass
class Arm:
    """What is recorded; the position of every joint is the time in seconds.

    Attributes:
        seconds: length.
        scene_hz: rate of the scene camera (raw images); its frame i has brightness i.
        silent: seconds (from, to) in which the scene camera sends nothing.
        camera_offset: s that the scene camera's stamps are off.
        commands: whether trajectories are recorded; they are 0.5 ahead of the joints.
        interventions: seconds (from, to) in which a person drives.
        prompts: (second, text).
    """

    seconds: float = 4.0
    scene_hz: float = 30.0
    silent: tuple[float, float] = (99.0, 99.0)
    camera_offset: float = 0.0
    commands: bool = True
    interventions: tuple[tuple[float, float], ...] = ()
    prompts: tuple[tuple[float, str], ...] = ()
    extra: list[Sent] = field(default_factory=list)

    def messages(self) -> list[Sent]:
        """All messages, by when they were recorded."""
        sent = [*self._images(), *self._joints(), *self._texts(), *self.extra]
        if self.commands:
            sent += self._commands()
        return sorted(sent, key=lambda one: one.received)

    def _images(self) -> Iterator[Sent]:
        for i, t in enumerate(_ticks(self.seconds, self.scene_hz)):
            if self.silent[0] <= t / SECOND < self.silent[1]:
                continue
            image = np.full((24, 32, 3), i % 256, np.uint8)
            stamp = t + round(self.camera_offset * SECOND)
            yield Sent("/scene_camera/image_raw", BEGIN + t + 5_000_000, raw_image(image, stamp))
        for t in _ticks(self.seconds, 15):
            image = np.full((16, 16, 3), 60, np.uint8)
            yield Sent("/wrist_camera/image_raw/compressed", BEGIN + t, jpeg(image, t))

    def _joints(self) -> Iterator[Sent]:
        for t in _ticks(self.seconds, 100):
            message = STORE.types["sensor_msgs/msg/JointState"](
                header=header(t),
                name=list(JOINTS),
                position=np.full(7, t / SECOND) * np.arange(1, 8),
                velocity=np.array([]),
                effort=np.array([]),
            )
            yield Sent("/joint_states", BEGIN + t, message)

    def _commands(self) -> Iterator[Sent]:
        point = STORE.types["trajectory_msgs/msg/JointTrajectoryPoint"]
        duration = STORE.types["builtin_interfaces/msg/Duration"]
        for t in _ticks(self.seconds, 50):
            points = [
                point(
                    positions=np.full(7, (t + ahead) / SECOND + 0.5) * np.arange(1, 8),
                    velocities=np.array([]),
                    accelerations=np.array([]),
                    effort=np.array([]),
                    time_from_start=duration(sec=0, nanosec=ahead),
                )
                for ahead in (0, SECOND // 50, SECOND // 25)
            ]
            message = STORE.types["trajectory_msgs/msg/JointTrajectory"](
                header=header(None), joint_names=list(JOINTS), points=points
            )
            yield Sent("/arm_controller/joint_trajectory", BEGIN + t, message)

    def _texts(self) -> Iterator[Sent]:
        string, boolean = STORE.types["std_msgs/msg/String"], STORE.types["std_msgs/msg/Bool"]
        for second, words in self.prompts:
            yield Sent("/openpi/prompt", BEGIN + round(second * SECOND), string(data=words))
        if self.interventions:
            changes = [(0.0, False)]
            for begin, end in self.interventions:
                changes += [(begin, True), (end, False)]
            for second, flag in changes:
                received = BEGIN + round(second * SECOND)
                yield Sent("/openpi/intervention", received, boolean(data=flag))


def header(after: int | None) -> Any:
    """A header; None is a stamp that was not set."""
    stamp = 0 if after is None else BEGIN + after
    time = STORE.types["builtin_interfaces/msg/Time"](sec=stamp // SECOND, nanosec=stamp % SECOND)
    return STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="")


def raw_image(image: np.ndarray, after: int) -> Any:
    height, width = image.shape[:2]
    return STORE.types["sensor_msgs/msg/Image"](
        header=header(after),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=image.reshape(-1),
    )


def jpeg(image: np.ndarray, after: int) -> Any:
    import io

    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=95)
    return STORE.types["sensor_msgs/msg/CompressedImage"](
        header=header(after), format="jpeg", data=np.frombuffer(file.getvalue(), np.uint8)
    )


def write_bag(folder: Path, messages: Iterable[Sent], *, mcap: bool) -> Path:
    """A rosbag2 folder."""
    plugin = StoragePlugin.MCAP if mcap else StoragePlugin.SQLITE3
    with BagWriter(folder, version=9, storage_plugin=plugin) as writer:
        connections: dict[str, Any] = {}
        for sent in messages:
            if sent.topic not in connections:
                kind = TYPES[sent.topic]
                connections[sent.topic] = writer.add_connection(sent.topic, kind, typestore=STORE)
            data = STORE.serialize_cdr(sent.message, TYPES[sent.topic])
            writer.write(connections[sent.topic], sent.received, data)
    return folder


def write_mcap(
    path: Path,
    messages: Iterable[Sent],
    facts: dict[str, str] | None = None,
    *,
    finish: bool = True,
) -> Path:
    """A single MCAP file; without ``finish`` it ends as that of a killed recorder."""
    with path.open("wb") as stream:
        writer = McapWriter(stream, chunk_size=20_000, compression=CompressionType.ZSTD)
        writer.start(profile="ros2")
        channels: dict[str, int] = {}
        for sent in messages:
            if sent.topic not in channels:
                kind = TYPES[sent.topic]
                text, _ = STORE.generate_msgdef(kind, ros_version=2)
                schema = writer.register_schema(kind, "ros2msg", text.encode())
                channels[sent.topic] = writer.register_channel(sent.topic, "cdr", schema)
            data = bytes(STORE.serialize_cdr(sent.message, TYPES[sent.topic]))
            writer.add_message(channels[sent.topic], sent.received, data, sent.received)
        if facts:
            writer.add_metadata("openpi_flash.episode", facts)
        if finish:
            writer.finish()
    if not finish:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) - 300])
    return path


def _ticks(seconds: float, hz: float) -> list[int]:
    return [round(i * SECOND / hz) for i in range(int(seconds * hz) + 1)]
