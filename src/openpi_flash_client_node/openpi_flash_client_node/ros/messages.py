"""Effects and states as ROS messages. One function per message, nothing decided."""

from __future__ import annotations

import array
import dataclasses
from collections.abc import Sequence
from typing import Any

from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from openpi_flash_msgs.msg import ActionChunk, InferenceStats, PolicyStatus, Subtask
from openpi_flash_robot.bridge.diagnostics import DiagnosticReport
from openpi_flash_robot.bridge.effects import (
    PublishChunk,
    PublishStats,
    PublishSubtask,
)
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.nanoseconds import from_stamp, split
from openpi_flash_robot.play.trajectory import Trajectory
from openpi_flash_robot.senses.frozen import fingerprint
from openpi_flash_robot.settings.node_settings import NodeSettings


def time_message(nanoseconds: int) -> Time:
    """A moment on the ROS clock."""
    sec, nanosec = split(nanoseconds)
    return Time(sec=sec, nanosec=nanosec)


def duration_message(nanoseconds: int) -> Duration:
    """A length of time."""
    sec, nanosec = split(nanoseconds)
    return Duration(sec=sec, nanosec=nanosec)


def stamp_of(stamp: Time) -> int:
    """The stamp of a header in nanoseconds; 0 if it was never set."""
    return from_stamp(stamp.sec, stamp.nanosec)


def fingerprint_of(image: Any) -> int:
    """By what an Image or a CompressedImage is known again."""
    return fingerprint(image.data, getattr(image, "step", 0))


def chunk_message(chunk: PublishChunk) -> ActionChunk:
    """An openpi_flash_msgs/ActionChunk."""
    message = ActionChunk()
    message.header.stamp = time_message(chunk.start_ns)
    message.observation_stamp = time_message(chunk.observation_ns)
    message.step_dt = duration_message(chunk.step_ns)
    message.sequence = chunk.sequence
    message.horizon = chunk.actions.shape[0]
    message.first_step = chunk.first_step
    description = chunk.description
    message.names = list(description.names)
    message.kinds = list(description.kinds)
    message.units = list(description.units)
    message.references = list(description.references)
    message.model, message.checkpoint = description.model, description.checkpoint
    message.values = array.array("d", chunk.actions.tobytes())
    message.prompt = chunk.instruction.text
    message.prompt_version = chunk.instruction.version
    message.episode = chunk.instruction.episode
    return message


def trajectory_message(trajectory: Trajectory, joints: Sequence[str]) -> JointTrajectory:
    """A trajectory_msgs/JointTrajectory; a stamp of zero means: start at reception."""
    message = JointTrajectory()
    message.joint_names = list(joints)
    if trajectory.start_ns is not None:
        message.header.stamp = time_message(trajectory.start_ns)
    for due_ns, positions, velocities in zip(
        trajectory.times_ns, trajectory.positions, trajectory.velocities, strict=True
    ):
        point = JointTrajectoryPoint(
            positions=array.array("d", positions.tobytes()),
            velocities=array.array("d", velocities.tobytes()),
        )
        # a point makes itself a duration in any case, and 50 windows a second have many points
        point.time_from_start.sec, point.time_from_start.nanosec = split(int(due_ns))
        message.points.append(point)
    return message


def subtask_message(subtask: PublishSubtask) -> Subtask:
    """An openpi_flash_msgs/Subtask."""
    message = Subtask(
        text=subtask.text,
        prompt=subtask.prompt,
        sequence=subtask.sequence,
        age=subtask.age,
        error=subtask.error,
    )
    message.header.stamp = time_message(subtask.stamp_ns)
    return message


def stats_message(stats: PublishStats) -> InferenceStats:
    """An openpi_flash_msgs/InferenceStats."""
    values = dataclasses.asdict(stats)
    stamp_ns, observation_ns = values.pop("stamp_ns"), values.pop("observation_ns")
    values["drop_counts"] = array.array("I", values["drop_counts"])
    message = InferenceStats(**values)
    message.header.stamp = time_message(stamp_ns)
    message.observation_stamp = time_message(observation_ns)
    return message


def status_message(status: Status, settings: NodeSettings, now: int) -> PolicyStatus:
    """An openpi_flash_msgs/PolicyStatus."""
    message = PolicyStatus(
        state=int(status.state),
        cause=int(status.cause),
        resumes_by_itself=status.condition.resumes_by_itself,
        model=status.model,
        checkpoint=status.checkpoint,
        limited_share=status.limited_share,
        tracking_error=status.tracking_error,
        intervention=status.intervention,
        dry_run=settings.dry_run,
        transport=status.transport or settings.link.transport,
        server=settings.link.server,
        session=settings.link.session,
        prompt=status.instruction.text,
        prompt_version=status.instruction.version,
        episode=status.instruction.episode,
        held_for=status.held_for,
        jpeg_quality=status.jpeg_quality,
        sequence=status.sequence,
        chunk_age=status.chunk_age,
        steps_buffered=status.steps_buffered,
        message=status.message,
    )
    message.header.stamp = time_message(now)
    return message


def diagnostics_message(
    reports: Sequence[DiagnosticReport], node: str, now: int
) -> DiagnosticArray:
    """A diagnostic_msgs/DiagnosticArray.

    Args:
        reports: its entries.
        node: full name of the node, so that two of them are told apart.
        now: this moment.
    """
    message = DiagnosticArray(
        status=[
            DiagnosticStatus(
                level=bytes([report.level]),
                name=f"{node}: {report.name}",
                hardware_id="openpi_flash",
                message=report.message,
                values=[KeyValue(key=key, value=value) for key, value in report.values.items()],
            )
            for report in reports
        ]
    )
    message.header.stamp = time_message(now)
    return message
