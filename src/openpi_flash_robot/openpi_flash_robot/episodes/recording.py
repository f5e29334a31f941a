"""Records episodes beside a bridge: what the node and the plain-Python runner call.

One method for each kind of thing that passes by; while no episode is recorded, each returns at
once. What goes wrong ends the episode and not the robot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from openpi_flash_robot.bridge.diagnostics import DiagnosticReport, Level
from openpi_flash_robot.bridge.effects import Effect
from openpi_flash_robot.bridge.status import Status
from openpi_flash_robot.episodes.definitions import Find
from openpi_flash_robot.episodes.entry import Entry
from openpi_flash_robot.episodes.facts import Result, episode_facts, server_facts
from openpi_flash_robot.episodes.folder import EpisodeError, EpisodeFolder, file_name
from openpi_flash_robot.episodes.recorder import Answer, EpisodeRecorder
from openpi_flash_robot.episodes.stream import EpisodeStream
from openpi_flash_robot.episodes.writer_thread import Finished, Recovered, WriterThread
from openpi_flash_robot.link.events import LinkEvent, LinkUp
from openpi_flash_robot.settings.node_settings import NodeSettings

CLOSE_TIMEOUT_S = 5.0
"""How long a node that ends waits for its episode: `ros2 launch` kills it 10 s after Ctrl-C."""


@dataclass(frozen=True)
class Notice:
    """A line for the log.

    Attributes:
        text: for a person.
        is_bad: whether something is lost.
    """

    text: str
    is_bad: bool


class EpisodeRecording:
    """Everything from orders to files. All methods belong to one thread, or one lock.

    Times are nanoseconds: `now` on the ROS clock, `steady` on one that always goes on.
    """

    def __init__(
        self, node: str, namespace: str, settings: NodeSettings, folder: str, find: Find
    ) -> None:
        """Begin without an episode.

        Args:
            node: full name of the node.
            namespace: of its topics.
            settings: its own.
            folder: where the files go.
            find: definitions of messages that are not everywhere the same.
        """
        self._node = node
        self._folder = EpisodeFolder(folder)
        self._stream = EpisodeStream(settings, namespace)
        self._writer = WriterThread(self._folder, find)
        self._recorder = EpisodeRecorder(self._writer)
        self._notices: list[Notice] = []
        self._names: set[str] = set()

    @property
    def is_recording(self) -> bool:
        """Whether an episode is being recorded."""
        return self._recorder.is_recording

    # --- orders ---

    def start(self, now: int, steady: int, at: datetime, status: Status) -> Answer:
        """Begin an episode; the answer's message is the path of its file.

        Args:
            now: this moment.
            steady: this moment.
            at: this moment, UTC.
            status: of the bridge.
        """
        self._settle()
        if self._recorder.problem and not self._recorder.is_recording:
            try:  # somebody may have made room
                self._folder.check()
            except EpisodeError as error:
                return Answer(False, str(error))
        facts = episode_facts(
            self._node, self._stream.settings, status.prompt, at.isoformat(timespec="milliseconds")
        )
        standing = self._stream.standing(now, status)
        answer = self._recorder.start(steady, self._new_name(at), facts, standing)
        if not answer.success:
            return answer
        return Answer(True, str(self._folder.path / answer.message))

    def stop(self, steady: int) -> Answer:
        """End the running episode."""
        self._settle()
        return self._recorder.stop(steady)

    def discard(self) -> Answer:
        """Remove the running episode, or the one that was stopped last."""
        self._settle()
        return self._recorder.discard()

    def mark(self, success: bool) -> Answer:
        """Say whether the running episode succeeds, or the one that was stopped last has."""
        self._settle()
        return self._recorder.mark(Result.SUCCESS if success else Result.FAILURE)

    def close(self, steady: int) -> list[Notice]:
        """End the running episode, and wait for its file; what is to be said of it."""
        if self._recorder.is_recording:
            self._recorder.stop(steady, "the recorder ended")
        if not self._writer.close(CLOSE_TIMEOUT_S):
            message = f"the episode was not written within {CLOSE_TIMEOUT_S:g} s"
            self._notices.append(Notice(f"{message}; the next start makes it whole", is_bad=True))
        return self.notices()

    # --- what passes by ---

    def message(
        self, now: int, topic: str, kind: str, data: bytes | Callable[[], bytes], size: int
    ) -> None:
        """A message of a sensor has come.

        Args:
            now: when.
            topic: of the message.
            kind: its type, such as "sensor_msgs/msg/Image".
            data: CDR, or what makes it on the writer's thread.
            size: bytes of memory that it takes.
        """
        if self._recorder.is_recording:
            self._recorder.add((Entry(topic, kind, now, size, data),))

    def effect(self, now: int, effect: Effect) -> None:
        """The bridge wants something done."""
        self._stream.remember(effect)
        if self._recorder.is_recording:
            self._recorder.add(self._stream.effect(now, effect))

    def status(self, now: int, status: Status) -> None:
        """What the bridge does and why; comes at least once in every control period."""
        if self._recorder.is_recording:
            self._recorder.add(self._stream.status(now, status))

    def link_event(self, event: LinkEvent) -> None:
        """Something has happened on the link."""
        if isinstance(event, LinkUp):
            self._recorder.server(server_facts(self._stream.settings, dict(event.metadata)))

    def settings(self, settings: NodeSettings) -> None:
        """These settings hold from now on."""
        self._stream.settings = settings

    # --- what comes of it ---

    def notices(self) -> list[Notice]:
        """Lines for the log since the last call; call it several times a second."""
        self._settle()
        found, self._notices = self._notices, []
        return found

    def report(self, steady: int) -> DiagnosticReport:
        """The entry of /diagnostics."""
        recorder, values = self._recorder, self._values(steady)
        if recorder.problem:
            return DiagnosticReport("episodes", Level.ERROR, recorder.problem, values)
        if not recorder.is_recording:
            return DiagnosticReport("episodes", Level.OK, "not recording", values)
        if dropped := self._writer.dropped:
            message = f"recording, but the disk is too slow: {dropped} messages dropped"
            return DiagnosticReport("episodes", Level.WARN, message, values)
        return DiagnosticReport("episodes", Level.OK, "recording", values)

    def _values(self, steady: int) -> Mapping[str, str]:
        values: dict[str, Any] = {"folder": self._folder.path}
        if self._recorder.is_recording:
            values["file"] = self._recorder.name
            values["seconds"] = f"{self._recorder.seconds(steady):.1f}"
            values["dropped"] = self._writer.dropped
        return {name: str(value) for name, value in values.items()}

    def _new_name(self, at: datetime) -> str:
        """A name that no other of this recorder has, also if it began in the same millisecond."""
        while (name := file_name(self._node, at)) in self._names:
            at += timedelta(milliseconds=1)
        self._names.add(name)
        return name

    def _settle(self) -> None:
        """Follow what has become of files."""
        for outcome in self._writer.outcomes():
            if isinstance(outcome, Finished):
                text = f"the episode is in {self._folder.path / outcome.name} "
                text += f"({outcome.bytes / 1e6:.1f} MB)"
                if outcome.dropped:
                    missing = ", ".join(f"{n} of {topic}" for topic, n in outcome.dropped.items())
                    text += f"; not in it are {missing}"
                self._notices.append(Notice(text, is_bad=bool(outcome.dropped)))
            elif isinstance(outcome, Recovered):
                text = f"{self._folder.path / outcome.name} was cut off when its recorder was "
                self._notices.append(Notice(f"{text}killed; it is whole up to there", False))
            else:
                if outcome.ends:
                    self._recorder.failed(outcome.name, outcome.message)
                self._notices.append(Notice(outcome.message, is_bad=True))
