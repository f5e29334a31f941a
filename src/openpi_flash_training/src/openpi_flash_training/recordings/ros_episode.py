"""A recording with ROS messages as an episode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from flash_transport import ImageError
from openpi_flash_robot.senses.rotation import rotation_numbers
from openpi_flash_robot.settings.state_inputs import StateInput, StateKind
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.episodes.recorded import (
    INTERVENTION,
    CameraStream,
    NumberStream,
    RecordedEpisode,
    TextStream,
)
from openpi_flash_training.episodes.stamps import choose_times, without_steps_back
from openpi_flash_training.recordings.messages import MessageFile
from openpi_flash_training.recordings.ros_inputs import CommandTopic, RosInputs
from openpi_flash_training.recordings.ros_values import (
    COMPRESSED_IMAGE,
    IMAGE,
    JOINT_STATE,
    JOINT_TRAJECTORY,
    VECTORS,
    image_of,
    joint_numbers,
    stamp_of,
    trajectory_points,
    vector_of,
)

_FIELDS = ("position", "velocity", "effort")
_SECOND = 1_000_000_000
_PLANAR = (0, 1, 5)
"""x, y and the rotation of a twist."""


def read_ros_episode(file: MessageFile, inputs: RosInputs) -> RecordedEpisode:
    """Read a recording.

    Streams are ``position:<joint>`` and the like, ``input:<name>``, ``command:<joint>`` (where to
    be), ``rate:<joint>`` (how fast to go), ``intervention``; cameras have their keys joined by
    slashes.

    Raises:
        DataError: a topic is missing or of a type that cannot be read, or the file is broken.
    """
    return _Reading(file, inputs).episode()


class _Reading:
    """One pass over the messages; images are read later, when they are needed."""

    def __init__(self, file: MessageFile, inputs: RosInputs) -> None:
        self._file = file
        self._inputs = inputs
        self._times: dict[str, list[tuple[int, int]]] = {}
        """Place in the file and stamp (0 for none) of each message, by topic."""
        self._messages: dict[str, list[Any]] = {}
        self._received: list[int] = []
        self._notes: list[str] = []

    def episode(self) -> RecordedEpisode:
        """Everything."""
        self._read()
        numbers: dict[str, NumberStream] = {}
        for topic, prefix in self._inputs.joint_topics:
            if self._messages.get(topic):
                numbers |= self._joints(topic, prefix)
        for name, given in self._inputs.inputs.items():
            numbers[f"input:{name}"] = self._input(given)
        for command in self._inputs.commands:
            if self._messages.get(command.topic):
                numbers |= self._commands(command)
        if self._messages.get(self._inputs.intervention):
            times, kept = self._chosen(self._inputs.intervention)
            messages = self._messages[self._inputs.intervention]
            values = np.array([[float(messages[i].data)] for i in kept])
            numbers[INTERVENTION] = NumberStream(times, values, is_command=True)
        cameras = {
            "/".join(path): self._camera(path, topic)
            for path, topic in self._inputs.cameras.items()
        }
        texts = {}
        for name, topic in self._inputs.texts.items():
            if self._messages.get(topic):
                times, kept = self._chosen(topic)
                words = tuple(str(self._messages[topic][i].data) for i in kept)
                texts[name] = TextStream(times, words)
        return RecordedEpisode(
            source=str(self._file.path),
            numbers=numbers,
            cameras=cameras,
            texts=texts,
            task=self._file.facts.get("task") or self._file.facts.get("prompt"),
            facts=_facts(self._file.facts),
            notes=(*self._file.notes, *self._notes),
        )

    def _read(self) -> None:
        inputs = self._inputs
        pictures = set(inputs.cameras.values())
        topics = pictures | {topic for topic, _ in inputs.joint_topics}
        topics |= {given.topic for given in inputs.inputs.values()}
        topics |= {command.topic for command in inputs.commands}
        topics |= {*inputs.texts.values(), inputs.intervention} - {""}
        for topic in sorted(pictures | {given.topic for given in inputs.inputs.values()}):
            if topic not in self._file.types:
                known = ", ".join(sorted(self._file.types))
                raise DataError(self._file.path, f"lacks the topic {topic}; it has {known}")
        for message in self._file.messages(frozenset(topics)):
            kind = self._file.types[message.topic]
            place = len(self._received)
            self._received.append(message.received)
            if message.topic in pictures:
                stamp = _header_stamp(message.data)
            else:
                decoded = self._decoded(message.data, kind, message.topic)
                self._messages.setdefault(message.topic, []).append(decoded)
                stamp = stamp_of(decoded) or 0
            self._times.setdefault(message.topic, []).append((place, stamp))
        received, steps = without_steps_back(np.array(self._received, np.int64))
        self._recorded = received
        if steps:
            self._notes.append(
                f"the recorder's clock went back {steps} times; what follows goes on after it"
            )

    def _decoded(self, data: bytes, kind: str, topic: str) -> Any:
        try:
            return self._file.decode(data, kind)
        except Exception as error:  # whatever a damaged message makes the decoder raise
            raise DataError(
                self._file.path, f"{topic} has a message that is no {kind}: {error!r}"
            ) from error

    def _chosen(self, topic: str) -> tuple[np.ndarray, np.ndarray]:
        """The times of a topic's messages, and which of them count."""
        places, stamps = np.array(self._times[topic], np.int64).T
        all_stamped = bool((stamps > 0).all())
        chosen = choose_times(stamps if all_stamped else None, self._recorded[places])
        if chosen.note:
            self._notes.append(f"{topic}: {chosen.note}")
        return chosen.times, chosen.kept

    def _joints(self, topic: str, prefix: str) -> dict[str, NumberStream]:
        self._check_type(topic, JOINT_STATE)
        times, kept = self._chosen(topic)
        streams: dict[str, tuple[list[int], list[float]]] = {}
        for time, number in zip(times.tolist(), kept, strict=True):
            for name in _FIELDS:
                for joint, value in joint_numbers(self._messages[topic][number], name).items():
                    at, values = streams.setdefault(f"{name}:{prefix}{joint}", ([], []))
                    at.append(time)
                    values.append(value)
        return {name: _stream(*stream) for name, stream in streams.items()}

    def _input(self, given: StateInput) -> NumberStream:
        kind = self._file.types[given.topic]
        if kind not in VECTORS:
            raise DataError(
                self._file.path, f"{given.topic} is {kind}, which cannot be read as numbers"
            )
        if not self._messages.get(given.topic):
            raise DataError(self._file.path, f"has no message of {given.topic}")
        times, kept = self._chosen(given.topic)
        messages = self._messages[given.topic]
        values = np.stack([_of_kind(vector_of(messages[i], kind), given) for i in kept])
        if values.shape[1] != given.size:
            raise DataError(
                self._file.path,
                f"{given.topic} has {values.shape[1]} numbers, state.{given.name} {given.size}",
            )
        return NumberStream(times, values)

    def _commands(self, command: CommandTopic) -> dict[str, NumberStream]:
        """Commands of each joint; a new trajectory replaces what the one before had left."""
        times, kept = self._chosen(command.topic)
        messages = self._messages[command.topic]
        kind = self._file.types[command.topic]
        prefix = "rate" if command.are_rates else "command"
        streams: dict[str, tuple[list[int], list[float]]] = {}
        for time, number in zip(times.tolist(), kept, strict=True):
            for joint, after, value in self._commanded(messages[number], kind, command):
                at, values = streams.setdefault(f"{prefix}:{joint}", ([], []))
                while at and at[-1] >= time + after:
                    at.pop()
                    values.pop()
                at.append(time + after)
                values.append(value)
        return {name: _stream(*stream, is_command=True) for name, stream in streams.items()}

    def _commanded(
        self, message: Any, kind: str, command: CommandTopic
    ) -> Iterator[tuple[str, int, float]]:
        """Joint, ns after the message, and position or rate, by rising time."""
        if kind == JOINT_TRAJECTORY:
            field = "velocities" if command.are_rates else "positions"
            joints, points = trajectory_points(message, field)
            for after, numbers in points:
                if command.are_rates and len(numbers) != len(joints):
                    raise DataError(
                        self._file.path,
                        f"{command.topic} has a trajectory with {len(numbers)} velocities for "
                        f"{len(joints)} joints, and its controller is told velocities; give the "
                        "parameter file of the node that was recorded",
                    )
                for joint, value in zip(joints, numbers.tolist(), strict=False):
                    yield command.renamed.get(joint, joint), after, value
        elif kind == JOINT_STATE:
            for joint, value in joint_numbers(message, "position").items():
                yield command.renamed.get(joint, joint), 0, value
        elif kind in VECTORS:
            values = vector_of(message, kind).tolist()
            values = [values[part] for part in command.parts] or values
            for joint, value in zip(command.joints, values, strict=False):
                yield joint, 0, value
        else:
            raise DataError(
                self._file.path, f"{command.topic} is {kind}, which is no command of joints"
            )

    def _camera(self, path: tuple[str, ...], topic: str) -> CameraStream:
        if self._file.types[topic] not in (IMAGE, COMPRESSED_IMAGE):
            raise DataError(self._file.path, f"{topic} is {self._file.types[topic]}, no image")
        if topic not in self._times:
            raise DataError(
                self._file.path, f"has no image of the camera {'/'.join(path)} ({topic})"
            )
        times, kept = self._chosen(topic)

        def read(indices: Sequence[int]) -> Iterator[np.ndarray]:
            return self._images(topic, kept[np.asarray(indices, np.int64)])

        return CameraStream(times, read)

    def _images(self, topic: str, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """Images by their numbers among all of a topic, rising."""
        kind = self._file.types[topic]
        wanted = iter(numbers.tolist())
        number = next(wanted, None)
        shape: tuple[int, ...] | None = None
        for i, message in enumerate(self._file.messages(frozenset({topic}))):
            if number is None:
                return
            if i != number:
                continue
            decoded = self._decoded(message.data, kind, topic)
            try:
                image = image_of(decoded, kind)
            except ImageError as error:
                raise DataError(self._file.path, f"{topic}, image {i}: {error}") from error
            shape = shape or image.shape
            if image.shape != shape:
                raise DataError(
                    self._file.path, f"{topic}, image {i} is {image.shape}, those before {shape}"
                )
            yield image
            number = next(wanted, None)

    def _check_type(self, topic: str, kind: str) -> None:
        if self._file.types[topic] != kind:
            raise DataError(
                self._file.path, f"{topic} is {self._file.types[topic]}, expected {kind}"
            )


def _stream(times: list[int], values: list[float], *, is_command: bool = False) -> NumberStream:
    return NumberStream(np.array(times, np.int64), np.array(values)[:, None], is_command)


def _of_kind(numbers: np.ndarray, given: StateInput) -> np.ndarray:
    """What the node makes of a message's numbers."""
    if given.kind.is_pose:
        return np.concatenate([numbers[:3], rotation_numbers(numbers[3:].tolist(), given.rotation)])
    if given.kind in (StateKind.BASE_TWIST, StateKind.ODOMETRY):
        return numbers[list(_PLANAR)]
    return numbers


def _header_stamp(data: bytes) -> int:
    """The stamp of a serialised message that begins with a header, ns."""
    order: Any = "little" if data[1] & 1 else "big"
    seconds = int.from_bytes(data[4:8], order, signed=True)
    return seconds * _SECOND + int.from_bytes(data[8:12], order)


def _facts(facts: Any) -> dict[str, str | int | float | bool]:
    """What the recorder wrote beside the messages, true and false as such."""
    words = {"true": True, "false": False}
    return {name: words.get(str(value).lower(), value) for name, value in facts.items()}
