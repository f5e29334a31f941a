"""Which messages an episode gets of what the bridge decides.

Inputs come in as they are; everything else begins here. Messages are made on the writer's thread:
here they are references to what no one changes any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from openpi_flash_robot.bridge.effects import (
    Effect,
    PublishChunk,
    PublishSubtask,
    PublishTrajectory,
)
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.cdr.joint_trajectory import JointTrajectoryWriter
from openpi_flash_robot.episodes.definitions import (
    ACTION_CHUNK,
    BOOL,
    JOINT_TRAJECTORY,
    POLICY_STATUS,
    STRING,
    SUBTASK,
)
from openpi_flash_robot.episodes.entry import Entry
from openpi_flash_robot.episodes.ros_messages import (
    chunk_message,
    flag_message,
    status_message,
    subtask_message,
    text_message,
)
from openpi_flash_robot.nanoseconds import SECOND
from openpi_flash_robot.settings.node_settings import NodeSettings

STATUS_EVERY_NS = SECOND // 2
"""Between two statuses that do not differ but in their numbers."""
SMALL = 1_000
"""Bytes of a message without arrays."""


@dataclass(frozen=True)
class EpisodeTopics:
    """Where the node's own messages stand in an episode: where it publishes them.

    Attributes:
        namespace: of the node, such as "/openpi".
    """

    namespace: str

    def of(self, name: str) -> str:
        """The topic of a name."""
        return f"{self.namespace.rstrip('/')}/{name}"


class EpisodeStream:
    """The messages of one episode after another. Times are nanoseconds on the ROS clock."""

    def __init__(self, settings: NodeSettings, namespace: str) -> None:
        """Begin before the first one.

        Args:
            settings: of the node.
            namespace: of its topics.
        """
        self.settings = settings
        self._topics = EpisodeTopics(namespace)
        self._writers: dict[str, JointTrajectoryWriter] = {}
        self._last: Status | None = None
        self._last_ns = 0
        self._subtask: PublishSubtask | None = None

    def standing(self, now: int, status: Status) -> list[Entry]:
        """What was said before an episode that begins now, and holds."""
        entries = [self._prompt(now, status), self._intervention(now, status)]
        entries.append(self._status(now, status))
        if self._subtask is not None:
            entries += self._subtask_entries(now, self._subtask)
        return entries

    def remember(self, effect: Effect) -> None:
        """Take note of what will stand when an episode begins."""
        if isinstance(effect, PublishSubtask):
            self._subtask = effect

    def effect(self, now: int, effect: Effect) -> list[Entry]:
        """The messages of an effect, if it is one that episodes hold."""
        if isinstance(effect, PublishTrajectory):
            controller, trajectory = effect.controller, effect.trajectory
            writer = self._writers.get(controller.name)
            if writer is None:
                writer = JointTrajectoryWriter(controller.sent_names)
                self._writers[controller.name] = writer
            size = SMALL + 3 * trajectory.positions.nbytes
            make = partial(writer.write, trajectory)
            return [Entry(controller.topic, JOINT_TRAJECTORY, now, size, make)]
        if isinstance(effect, PublishChunk):
            size = SMALL + effect.actions.nbytes
            topic = self._topics.of("action_chunk")
            return [Entry(topic, ACTION_CHUNK, now, size, partial(chunk_message, effect))]
        if isinstance(effect, PublishSubtask):
            return self._subtask_entries(now, effect)
        return []

    def status(self, now: int, status: Status) -> list[Entry]:
        """The messages of a status: on change, and now and then for its numbers."""
        last = self._last
        if last is not None and status.intervention == last.intervention:
            is_soon = 0 <= now - self._last_ns < STATUS_EVERY_NS
            if is_soon and not status.differs_from(last):
                return []
        entries = [self._status(now, status)]
        if last is None or status.prompt != last.prompt:
            entries.append(self._prompt(now, status))
        # repeated with each status: who reads it then sees a gap in the recording as one
        entries.append(self._intervention(now, status))
        return entries

    def _status(self, now: int, status: Status) -> Entry:
        self._last, self._last_ns = status, now
        make = partial(status_message, status, self.settings, now)
        return Entry(self._topics.of("status"), POLICY_STATUS, now, SMALL, make)

    def _prompt(self, now: int, status: Status) -> Entry:
        make = partial(text_message, status.prompt)
        return Entry(self._topics.of("prompt"), STRING, now, SMALL, make)

    def _intervention(self, now: int, status: Status) -> Entry:
        data = flag_message(status.intervention)
        return Entry(self._topics.of("intervention"), BOOL, now, SMALL, data)

    def _subtask_entries(self, now: int, subtask: PublishSubtask) -> list[Entry]:
        text = partial(text_message, subtask.text)
        return [
            Entry(
                self._topics.of("subtask"), SUBTASK, now, SMALL, partial(subtask_message, subtask)
            ),
            Entry(self._topics.of("subtask_text"), STRING, now, SMALL, text),
        ]
