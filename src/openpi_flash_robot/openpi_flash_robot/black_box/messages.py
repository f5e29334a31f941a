"""Records as JSON messages. One function per kind, nothing decided."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from openpi_flash_robot.black_box.records import (
    Answered,
    ImageArrived,
    JointsArrived,
    Record,
    Recording,
    RequestSent,
    ServerFound,
    SettingsTaken,
    SmallFrame,
    StopHeard,
)
from openpi_flash_robot.black_box.schemas import schema_of
from openpi_flash_robot.bridge.effects import (
    PublishChunk,
    PublishPlan,
    PublishStats,
    PublishSubtask,
    PublishTrajectory,
    Warn,
)
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.link.events import LinkDown, RequestFailure
from openpi_flash_robot.mcap.writer import McapWriter
from openpi_flash_robot.nanoseconds import split, to_seconds
from openpi_flash_robot.play.trajectory import Trajectory

LIBRARY = "openpi-flash black box"
DECIMALS = 6
"""Of positions and velocities: a millionth of a radian."""
WARNING = 3
"""Level of foxglove.Log."""


class JsonMessage(NamedTuple):
    """A message before it is text.

    Attributes:
        topic: where it appears.
        schema: its name in `SCHEMAS`.
        values: what `json` can write.
    """

    topic: str
    schema: str
    values: Mapping[str, Any]


def write_recording(
    recording: Recording, write: Callable[[bytes], object]
) -> Iterator[None]:  # an iterator, so that the caller can pause between two messages
    """Write a recording as an MCAP file, one message at each step; whole when it has ended.

    Args:
        recording: what to write.
        write: takes the file's bytes, in order.
    """
    file = McapWriter(write, library=LIBRARY)
    channels: dict[str, int] = {}

    def add(log_ns: int, message: JsonMessage) -> None:
        if message.topic not in channels:
            channels[message.topic] = file.add_channel(
                message.topic, schema_of(message.schema), "json"
            )
        file.add_message(channels[message.topic], max(0, log_ns), to_json(message.values))

    entries = recording.entries
    began_ns = entries[0][0] if entries else 0
    add(began_ns, _about(recording))
    for record in recording.standing:
        add(began_ns, message_of(record, began_ns, _names(record, recording)))
    for ros_ns, _, _, record in entries:
        yield
        add(ros_ns, message_of(record, ros_ns, _names(record, recording)))
    file.finish()


def _names(record: Record, recording: Recording) -> Sequence[str]:
    """Names of the columns of a record."""
    return recording.joints if isinstance(record, RequestSent) else recording.axes


def message_of(record: Record, now: int, joints: Sequence[str]) -> JsonMessage:
    """A record as a message.

    Args:
        record: what was recorded.
        now: when, on the ROS clock.
        joints: names of its columns.
    """
    return _KINDS[type(record)](record, now, joints)


def to_json(values: Mapping[str, Any]) -> bytes:
    """JSON, with null for what it has no numbers for: NaN and infinities."""
    try:
        return json.dumps(values, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(_finite(values), separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _about(recording: Recording) -> JsonMessage:
    values = {
        "node": recording.node,
        "cause": recording.cause,
        "joints": recording.joints,
        "records": len(recording.entries),
        "dropped": recording.dropped,
    }
    return JsonMessage("/recording", "openpi_flash.Recording", values)


def _image(record: ImageArrived, now: int, _: Sequence[str]) -> JsonMessage:
    values = {"stamp": _time(record.stamp_ns), "age": to_seconds(now - record.stamp_ns)}
    return JsonMessage(f"/camera/{record.camera}", "openpi_flash.Image", values)


def _frame(record: SmallFrame, _: int, __: Sequence[str]) -> JsonMessage:
    values = {
        "timestamp": _time(record.stamp_ns),
        "frame_id": record.camera,
        "data": base64.b64encode(record.jpeg).decode(),
        "format": "jpeg",
    }
    return JsonMessage(f"/frame/{record.camera}", "foxglove.CompressedImage", values)


def _joints(record: JointsArrived, now: int, _: Sequence[str]) -> JsonMessage:
    values = {"stamp": _time(record.stamp_ns), "age": to_seconds(now - record.stamp_ns)}
    for name in ("positions", "velocities", "efforts"):
        numbers = _numbers(np.frombuffer(getattr(record, name)))
        values[name] = dict(zip(record.names, numbers))  # noqa: B905 - drivers may leave some out
    return JsonMessage("/joints", "openpi_flash.Joints", values)


def _stop_input(record: StopHeard, _: int, __: Sequence[str]) -> JsonMessage:
    return JsonMessage("/stop_input", "openpi_flash.StopInput", dataclasses.asdict(record))


def _request(record: RequestSent, _: int, joints: Sequence[str]) -> JsonMessage:
    values = {
        "request_id": record.request_id,
        "images": {name: _time(stamp) for name, stamp in record.image_stamps_ns.items()},
        "joints_stamp": _time(record.joints_ns),
        "positions": _by_joint(joints, record.positions),
        "prompt": record.prompt,
        "timeout": record.timeout,
        "is_continuation": record.is_continuation,
    }
    return JsonMessage("/request", "openpi_flash.Request", values)


def _answer(record: Answered, _: int, __: Sequence[str]) -> JsonMessage:
    values = {
        "request_id": record.request_id,
        "error": "",
        "actions": [] if record.actions is None else _numbers(record.actions),
        "description": record.description,
        "preprocess": record.preprocess_s,
        "serialize": record.cost.serialize_s,
        "total": record.total_s,
        "bytes_up": record.cost.bytes_up,
        "bytes_down": record.cost.bytes_down,
    }
    return JsonMessage("/answer", "openpi_flash.Answer", values)


def _failure(record: RequestFailure, _: int, __: Sequence[str]) -> JsonMessage:
    values = {"request_id": record.request_id, "error": f"{record.kind.value}: {record.message}"}
    return JsonMessage("/answer", "openpi_flash.Answer", values)


def _server_found(record: ServerFound, _: int, __: Sequence[str]) -> JsonMessage:
    values = {"connected": True, "message": record.metadata}
    return JsonMessage("/server", "openpi_flash.Server", values)


def _server_lost(record: LinkDown, _: int, __: Sequence[str]) -> JsonMessage:
    values = {"connected": False, "message": record.message}
    return JsonMessage("/server", "openpi_flash.Server", values)


def _chunk(record: PublishChunk, now: int, _: Sequence[str]) -> JsonMessage:
    values = {
        "sequence": record.sequence,
        "start": _time(record.start_ns),
        "observation_stamp": _time(record.observation_ns),
        "age": to_seconds(now - record.observation_ns),
        "step": to_seconds(record.step_ns),
        "first_step": record.first_step,
        "prompt": record.instruction.text,
        "actions": _numbers(record.actions),
    }
    return JsonMessage("/chunk", "openpi_flash.Chunk", values)


def _plan(record: PublishPlan, now: int, joints: Sequence[str]) -> JsonMessage:
    return JsonMessage("/plan", "openpi_flash.Motion", _motion(record.trajectory, now, joints))


def _command(record: PublishTrajectory, now: int, _: Sequence[str]) -> JsonMessage:
    controller = record.controller
    values = _motion(record.trajectory, now, controller.joints)
    return JsonMessage(f"/command/{controller.name}", "openpi_flash.Motion", values)


def _motion(trajectory: Trajectory, now: int, joints: Sequence[str]) -> dict[str, Any]:
    """Its first point by joint, which plots, and all of its points."""
    start_ns = now if trajectory.start_ns is None else trajectory.start_ns
    return {
        "positions": _by_joint(joints, trajectory.positions[0]),
        "velocities": _by_joint(joints, trajectory.velocities[0]),
        "joints": list(joints),
        "start": _time(start_ns),
        "is_stamped": trajectory.start_ns is not None,
        "times": (trajectory.times_ns / 1e9).tolist(),
        "points": _numbers(trajectory.positions),
        "point_velocities": _numbers(trajectory.velocities),
    }


def _stats(record: PublishStats, _: int, __: Sequence[str]) -> JsonMessage:
    values = dataclasses.asdict(record)
    values["stamp"] = _time(values.pop("stamp_ns"))
    return JsonMessage("/stats", "openpi_flash.Stats", values)


def _subtask(record: PublishSubtask, _: int, __: Sequence[str]) -> JsonMessage:
    values = dataclasses.asdict(record)
    values["stamp"] = _time(values.pop("stamp_ns"))
    return JsonMessage("/subtask", "openpi_flash.Subtask", values)


def _status(record: Status, _: int, __: Sequence[str]) -> JsonMessage:
    values = {
        "state": record.state.name,
        "cause": record.cause.name,
        "message": record.message,
        "resumes_by_itself": record.condition.resumes_by_itself,
        "prompt": record.prompt,
        "sequence": record.sequence,
        "chunk_age": record.chunk_age,
        "steps_buffered": record.steps_buffered,
        "limited_share": record.limited_share,
        "tracking_error": record.tracking_error,
        "intervention": record.intervention,
    }
    return JsonMessage("/status", "openpi_flash.Status", values)


def _warning(record: Warn, now: int, _: Sequence[str]) -> JsonMessage:
    values = {
        "timestamp": _time(now),
        "level": WARNING,
        "message": record.message,
        "name": "client_node",
        "file": "",
        "line": 0,
    }
    return JsonMessage("/log", "foxglove.Log", values)


def _settings(record: SettingsTaken, _: int, __: Sequence[str]) -> JsonMessage:
    return JsonMessage("/settings", "openpi_flash.Settings", record.values)


def _time(nanoseconds: int) -> dict[str, int]:
    sec, nsec = split(max(0, nanoseconds))
    return {"sec": sec, "nsec": nsec}


def _numbers(values: Any) -> Any:
    return np.round(np.asarray(values, dtype=np.float64), DECIMALS).tolist()


def _by_joint(joints: Sequence[str], values: Any) -> dict[str, float]:
    return dict(zip(joints, _numbers(values), strict=True))


_KINDS: Mapping[type, Callable[[Any, int, Sequence[str]], JsonMessage]] = {
    ImageArrived: _image,
    SmallFrame: _frame,
    JointsArrived: _joints,
    StopHeard: _stop_input,
    RequestSent: _request,
    Answered: _answer,
    RequestFailure: _failure,
    ServerFound: _server_found,
    LinkDown: _server_lost,
    PublishChunk: _chunk,
    PublishPlan: _plan,
    PublishTrajectory: _command,
    PublishStats: _stats,
    PublishSubtask: _subtask,
    Status: _status,
    Warn: _warning,
    SettingsTaken: _settings,
}
