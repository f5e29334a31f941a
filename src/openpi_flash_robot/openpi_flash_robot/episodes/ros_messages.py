"""What the bridge decides, and images, as ROS messages in CDR. One function per kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openpi_flash_robot.bridge.effects import PublishChunk, PublishSubtask
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.cdr.writer import CdrWriter
from openpi_flash_robot.settings.node_settings import NodeSettings


def text_message(text: str) -> bytes:
    """A std_msgs/String."""
    return CdrWriter().string(text).message()


def flag_message(value: bool) -> bytes:
    """A std_msgs/Bool."""
    return CdrWriter().boolean(value).message()


def vector_message(values: Sequence[float]) -> bytes:
    """A std_msgs/Float64MultiArray without a layout."""
    return CdrWriter().uint32(0).uint32(0).doubles(values).message()


def joint_state_message(
    stamp_ns: int,
    names: Sequence[str],
    positions: Sequence[float],
    velocities: Sequence[float] = (),
    efforts: Sequence[float] = (),
) -> bytes:
    """A sensor_msgs/JointState."""
    writer = CdrWriter().header(stamp_ns).strings(names)
    return writer.doubles(positions).doubles(velocities).doubles(efforts).message()


def jpeg_message(stamp_ns: int, jpeg: bytes) -> bytes:
    """A sensor_msgs/CompressedImage."""
    return CdrWriter().header(stamp_ns).string("jpeg").octets(jpeg).message()


def rgb_message(stamp_ns: int, image: Any) -> bytes:
    """A sensor_msgs/Image of uint8 RGB [H, W, 3]."""
    height, width = image.shape[:2]
    writer = CdrWriter().header(stamp_ns).uint32(height).uint32(width).string("rgb8")
    return writer.uint8(0).uint32(width * 3).octets(image.tobytes()).message()


def chunk_message(chunk: PublishChunk) -> bytes:
    """An openpi_flash_msgs/ActionChunk."""
    writer = CdrWriter().header(chunk.start_ns).time(chunk.observation_ns).time(chunk.step_ns)
    writer.uint32(chunk.sequence).uint32(chunk.actions.shape[0]).uint32(chunk.first_step)
    described = chunk.description
    writer.strings(described.names).strings(described.kinds)
    writer.strings(described.units).strings(described.references)
    writer.doubles(chunk.actions).string(chunk.instruction.text)
    writer.uint32(chunk.instruction.version).uint32(chunk.instruction.episode)
    return writer.string(described.model).string(described.checkpoint).message()


def subtask_message(subtask: PublishSubtask) -> bytes:
    """An openpi_flash_msgs/Subtask."""
    writer = CdrWriter().header(subtask.stamp_ns).string(subtask.text).string(subtask.prompt)
    return writer.uint32(subtask.sequence).float32(subtask.age).string(subtask.error).message()


def status_message(status: Status, settings: NodeSettings, now: int) -> bytes:
    """An openpi_flash_msgs/PolicyStatus."""
    writer = CdrWriter().header(now).uint8(int(status.state)).uint8(int(status.cause))
    writer.boolean(status.condition.resumes_by_itself).boolean(settings.dry_run)
    link = settings.link
    writer.string(link.transport).string(link.server).string(link.session)
    writer.string(status.model).string(status.checkpoint)
    instruction = status.instruction
    writer.string(instruction.text).uint32(instruction.version).uint32(instruction.episode)
    writer.float32(status.held_for).uint8(status.jpeg_quality)
    writer.uint32(status.sequence).float32(status.chunk_age)
    writer.uint32(status.steps_buffered).float32(status.limited_share)
    writer.float32(status.tracking_error).boolean(status.intervention)
    return writer.string(status.message).message()
