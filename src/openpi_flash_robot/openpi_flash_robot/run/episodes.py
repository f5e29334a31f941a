"""Episodes of a robot without ROS: `runner.episodes.start()` and `stop()`.

Files are those of the ROS node, with topics of this module's naming. The bridge's clock is the
steady one; stamps in a file are of the system's clock, by one offset for each episode.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from openpi_flash_robot.bridge.effects import Effect, PublishChunk, PublishSubtask
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.cdr.joint_trajectory import JointTrajectoryWriter
from openpi_flash_robot.episodes.definitions import (
    COMPRESSED_IMAGE,
    IMAGE,
    JOINT_STATE,
    JOINT_TRAJECTORY,
    VECTOR,
)
from openpi_flash_robot.episodes.folder import EpisodeError, default_folder
from openpi_flash_robot.episodes.recorder import Answer
from openpi_flash_robot.episodes.recording import EpisodeRecording, Notice
from openpi_flash_robot.episodes.ros_messages import (
    joint_state_message,
    jpeg_message,
    rgb_message,
    vector_message,
)
from openpi_flash_robot.link.events import LinkEvent, LinkUp
from openpi_flash_robot.link.transport import IMAGE_WORK
from openpi_flash_robot.nanoseconds import from_seconds
from openpi_flash_robot.play.trajectory import Trajectory
from openpi_flash_robot.run.listeners import CommandSent
from openpi_flash_robot.run.robot import Reading
from openpi_flash_robot.senses.observation import Image
from openpi_flash_robot.settings.node_settings import NodeSettings

NODE, NAMESPACE = "/python", "/openpi"
JOINTS_TOPIC = "/joint_states"
MOST_COMMANDS = 1_000
"""Commands that wait for the deciding thread, which records them."""

log = logging.getLogger("openpi_flash_robot")


class RunnerEpisodes:
    """Records episodes; its orders may be given from any thread."""

    def __init__(
        self, settings: NodeSettings, axes: tuple[str, ...], status: Callable[[], Status]
    ) -> None:
        """Touch nothing yet: the folder is made by the first `start`.

        Args:
            settings: of the robot; `record_folder` and `record_jpeg_quality` are for this.
            axes: names of the columns of a command.
            status: what the robot does now.
        """
        self._settings, self._read_status = settings, status
        self._lock = threading.Lock()
        self._recording: EpisodeRecording | None = None
        self._server: LinkUp | None = None
        self._subtask: PublishSubtask | None = None
        self._offset_ns = 0
        self._is_on = False
        self._commands: deque[CommandSent] = deque(maxlen=MOST_COMMANDS)
        self._writers = [
            (
                f"/{controller.name}/joint_trajectory",
                JointTrajectoryWriter(controller.sent_names),
                [axes.index(joint) for joint in controller.joints],
            )
            for controller in settings.controllers
        ]

    # --- orders ---

    @property
    def is_recording(self) -> bool:
        """Whether an episode is being recorded."""
        return self._is_on

    def start(self) -> Path:
        """Begin an episode; where its file will be.

        Raises:
            EpisodeError: one is being recorded, or the folder cannot be written.
        """
        status = self._read_status()
        with self._lock:
            recording = self._recording or self._made()
            steady = time.monotonic_ns()
            offset_ns = time.time_ns() - steady
            answer = recording.start(steady + offset_ns, steady, datetime.now(timezone.utc), status)
            if answer.success:
                self._offset_ns = offset_ns
                self._commands.clear()
            return Path(self._answered(recording, answer))

    def stop(self) -> str:
        """End the running episode; its file, length and result in words.

        Raises:
            EpisodeError: there is none.
        """
        return self._order(lambda recording: recording.stop(time.monotonic_ns()))

    def discard(self) -> str:
        """Remove the running episode, or the one that was stopped last.

        Raises:
            EpisodeError: there is none.
        """
        return self._order(EpisodeRecording.discard)

    def mark(self, success: bool) -> str:
        """Say whether the running episode succeeds, or the one that was stopped last has.

        Raises:
            EpisodeError: there is none.
        """
        return self._order(lambda recording: recording.mark(success))

    def close(self) -> None:
        """End the running episode, and wait for its file."""
        with self._lock:
            recording, self._recording, self._is_on = self._recording, None, False
            if recording is not None:
                _tell(recording.close(time.monotonic_ns()))

    def _made(self) -> EpisodeRecording:
        settings = self._settings
        folder = settings.record.folder or default_folder(os.environ)
        recording = EpisodeRecording(NODE, NAMESPACE, settings, folder, _no_definition)
        if self._server is not None:
            recording.link_event(self._server)
        if self._subtask is not None:
            recording.effect(0, self._subtask)
        self._recording = recording
        return recording

    def _order(self, give: Callable[[EpisodeRecording], Answer]) -> str:
        with self._lock:
            if self._recording is None:
                raise EpisodeError("no episode has been recorded yet")
            return self._answered(self._recording, give(self._recording))

    def _answered(self, recording: EpisodeRecording, answer: Answer) -> str:
        self._settle(recording)
        if not answer.success:
            raise EpisodeError(answer.message)
        return answer.message

    def _settle(self, recording: EpisodeRecording) -> None:
        _tell(recording.notices())
        self._is_on = recording.is_recording

    # --- what passes by; times are of the bridge's clock ---

    def reading(self, now: int, reading: Reading) -> None:
        """The robot has measured something."""
        if self._is_on:
            self._guarded(self._add_reading, now, reading)

    def images(self, now: int, images: Mapping[str, Image]) -> None:
        """Images have been read; nobody changes them any more."""
        if self._is_on:
            self._guarded(self._add_images, now, now, images)

    def command(self, command: CommandSent) -> None:
        """A command was sent; the deciding thread records it, so that this one waits for nobody."""
        if self._is_on:
            self._commands.append(command)

    def effect(self, now: int, effect: Effect) -> None:
        """The bridge wants something done."""
        if isinstance(effect, PublishSubtask):
            self._subtask = effect
        if self._is_on:
            self._guarded(self._add_effect, now, effect)

    def status(self, now: int, status: Status) -> None:
        """What the bridge does and why; comes in every control period."""
        if self._is_on:
            self._guarded(self._add_status, now, status)

    def link_event(self, event: LinkEvent) -> None:
        """Something has happened on the link."""
        if isinstance(event, LinkUp):
            self._server = event
            self._guarded(lambda recording: recording.link_event(event))

    def _guarded(self, add: Callable[..., None], *arguments: Any) -> None:
        """Record something; an error ends the episode and not the robot."""
        with self._lock:
            recording = self._recording
            if recording is None:
                return
            try:
                add(recording, *arguments)
            except Exception as error:
                log.exception("the episode has ended by an error: %s", error)
                recording.stop(time.monotonic_ns())
                self._is_on = False

    def _add_reading(self, recording: EpisodeRecording, now: int, reading: Reading) -> None:
        at = now if reading.stamp is None else from_seconds(reading.stamp)
        joints = joint_state_message(
            at + self._offset_ns,
            self._settings.joints,
            list(reading.positions),
            list(reading.velocities),
            list(reading.efforts),
        )
        received = now + self._offset_ns
        recording.message(received, JOINTS_TOPIC, JOINT_STATE, joints, len(joints))
        for name, values in reading.states.items():
            data = vector_message(list(values))
            recording.message(received, f"/state/{name}", VECTOR, data, len(data))
        self._add_images(recording, now, at, reading.images)

    def _add_images(
        self, recording: EpisodeRecording, now: int, at: int, images: Mapping[str, Image]
    ) -> None:
        stamp_ns, quality = at + self._offset_ns, self._settings.record.jpeg_quality
        for name, image in images.items():
            topic, kind, make = f"/{name}/image", IMAGE, partial(rgb_message, stamp_ns, image)
            if quality is not None:
                topic, kind = f"/{name}/image/compressed", COMPRESSED_IMAGE
                make = partial(_jpeg, stamp_ns, image, quality)
            recording.message(now + self._offset_ns, topic, kind, make, image.nbytes)

    def _add_effect(self, recording: EpisodeRecording, now: int, effect: Effect) -> None:
        offset_ns = self._offset_ns
        if isinstance(effect, PublishChunk):
            effect = replace(
                effect,
                start_ns=effect.start_ns + offset_ns,
                observation_ns=effect.observation_ns + offset_ns,
            )
        elif isinstance(effect, PublishSubtask):
            effect = replace(effect, stamp_ns=effect.stamp_ns + offset_ns)
        recording.effect(now + offset_ns, effect)

    def _add_status(self, recording: EpisodeRecording, now: int, status: Status) -> None:
        while self._commands:
            self._add_command(recording, self._commands.popleft())
        recording.status(now + self._offset_ns, status)
        self._settle(recording)

    def _add_command(self, recording: EpisodeRecording, command: CommandSent) -> None:
        at = command.stamp_ns + self._offset_ns
        for topic, writer, columns in self._writers:
            point = Trajectory(
                start_ns=at,
                times_ns=np.zeros(1, np.int64),
                positions=command.positions[None, columns],
                velocities=command.velocities[None, columns],
            )
            recording.message(at, topic, JOINT_TRAJECTORY, partial(writer.write, point), 1_000)


def _jpeg(stamp_ns: int, image: Image, quality: int) -> bytes:
    return jpeg_message(stamp_ns, IMAGE_WORK.encode(image, quality)["data"])


def _no_definition(_: str) -> None:
    """What these episodes hold is in `DEFINITIONS`."""


def _tell(notices: list[Notice]) -> None:
    for notice in notices:
        log.log(logging.ERROR if notice.is_bad else logging.INFO, notice.text)
