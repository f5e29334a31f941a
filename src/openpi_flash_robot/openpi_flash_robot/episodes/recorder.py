"""When an episode begins and ends, what it is marked with, and what orders are answered. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from openpi_flash_robot.episodes.entry import Entry
from openpi_flash_robot.episodes.facts import RESULT, SERVER, Facts, Result, result_facts
from openpi_flash_robot.nanoseconds import SECOND


class Files(Protocol):
    """Where episodes go; nothing here blocks, and what fails is told later."""

    def begin(self, name: str, facts: Facts) -> None:
        """Begin a file."""

    def add(self, entry: Entry) -> None:
        """Append a message to it."""

    def note(self, kind: str, facts: Facts) -> None:
        """Append metadata to it."""

    def finish(self, facts: Facts) -> None:
        """Make it whole."""

    def discard(self) -> None:
        """Remove it."""

    def revise(self, name: str, facts: Facts) -> None:
        """Change the result of a finished one."""

    def remove(self, name: str) -> None:
        """Remove a finished one."""


class Answer(NamedTuple):
    """The answer to an order.

    Attributes:
        success: whether it is carried out.
        message: what happens now, or why not; of a start, the name of the file.
    """

    success: bool
    message: str


@dataclass
class _Running:
    name: str
    began_ns: int
    result: Result = Result.UNKNOWN


class EpisodeRecorder:
    """Follows the orders. Times are nanoseconds on a steady clock.

    Attributes:
        problem: why the last episode was ended, or none can begin; empty if all is well.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._running: _Running | None = None
        self._last: str | None = None
        self._server: Facts | None = None
        self.problem = ""

    @property
    def is_recording(self) -> bool:
        """Whether an episode is being recorded."""
        return self._running is not None

    @property
    def name(self) -> str:
        """The file of the running episode; empty if there is none."""
        return self._running.name if self._running is not None else ""

    def seconds(self, now: int) -> float:
        """How long the running episode is."""
        return 0.0 if self._running is None else (now - self._running.began_ns) / SECOND

    # --- orders ---

    def start(self, now: int, name: str, facts: Facts, standing: Sequence[Entry]) -> Answer:
        """Begin an episode.

        Args:
            now: this moment.
            name: of its file.
            facts: about it.
            standing: messages that hold from its beginning on.
        """
        if self._running is not None:
            return Answer(
                False, f"{self._running.name} is being recorded; stop or discard it first"
            )
        self._running, self._last, self.problem = _Running(name, now), None, ""
        self._files.begin(name, facts)
        if self._server is not None:
            self._files.note(SERVER, self._server)
        for entry in standing:
            self._files.add(entry)
        return Answer(True, name)

    def stop(self, now: int, why: str = "stopped") -> Answer:
        """End the running episode; its file is whole soon."""
        running = self._running
        if running is None:
            return Answer(False, self._nothing("stop"))
        seconds = self.seconds(now)
        facts = {**result_facts(running.result), "ended": why, "seconds": f"{seconds:.3f}"}
        self._running, self._last = None, running.name
        self._files.finish(facts)
        return Answer(True, f"{running.name}: {seconds:.1f} s, {running.result.value}")

    def discard(self) -> Answer:
        """Remove the running episode, or the one that was stopped last."""
        if self._running is not None:
            name, self._running = self._running.name, None
            self._files.discard()
        elif self._last is not None:
            name, self._last = self._last, None
            self._files.remove(name)
        else:
            return Answer(False, self._nothing("discard"))
        return Answer(True, f"{name} is removed")

    def mark(self, result: Result) -> Answer:
        """Say how the running episode goes, or how the one that was stopped last went."""
        facts = result_facts(result)
        if self._running is not None:
            name, self._running.result = self._running.name, result
            self._files.note(RESULT, facts)
        elif self._last is not None:
            name = self._last
            self._files.revise(name, facts)
        else:
            return Answer(False, self._nothing("mark"))
        return Answer(True, f"{name}: {result.value}")

    def _nothing(self, what: str) -> str:
        why = f": {self.problem}" if self.problem else ""
        return f"there is no episode to {what}{why}"

    # --- what passes by ---

    def add(self, entries: Sequence[Entry]) -> None:
        """Append messages to the running episode."""
        if self._running is not None:
            for entry in entries:
                self._files.add(entry)

    def server(self, facts: Facts) -> None:
        """A server has been found; it holds for the episodes from now on."""
        self._server = facts
        if self._running is not None:
            self._files.note(SERVER, facts)

    def failed(self, name: str, message: str) -> None:
        """The file cannot be written any more.

        Args:
            name: of the file; empty: no file can.
            message: why, for a person.
        """
        self.problem = message
        if self._running is not None and name in ("", self._running.name):
            self._running = None
        if self._last == name:
            self._last = None
