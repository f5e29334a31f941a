"""The folder of episodes: names, files that are not whole yet, what killed processes have left."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from openpi_flash_robot.episodes.episode_file import end_of
from openpi_flash_robot.episodes.facts import Facts, Result, result_facts
from openpi_flash_robot.mcap.whole_part import NotMcapError, whole_part

if sys.platform != "win32":
    import fcntl

LEAST_FREE_BYTES = 500_000_000
"""Below this much free space no episode begins or goes on: the robot's computer needs some."""
PARTIAL = ".partial"
"""Ends the name of a file that is not whole yet."""
KILLED = {"ended": "the recorder was killed"}


class EpisodeError(Exception):
    """An episode cannot be recorded. Raised for the user: names the place and what to do."""


def default_folder(environment: Mapping[str, str]) -> str:
    """Beside ROS's own logs: `openpi_flash/episodes` in $ROS_HOME, ~/.ros unless it is set."""
    return str(Path(environment.get("ROS_HOME") or "~/.ros") / "openpi_flash" / "episodes")


def file_name(node: str, at: datetime) -> str:
    """A name that sorts by time.

    Args:
        node: full name of the node, such as /openpi/client_node.
        at: now, UTC.
    """
    stem = node.strip("/").replace("/", ".")
    return f"{stem}_{at:%Y-%m-%dT%H-%M-%S}-{at.microsecond // 1000:03d}Z.mcap"


class EpisodeFolder:
    """The folder of one recorder; others may use it, too."""

    def __init__(self, path: str) -> None:
        """Touch nothing yet.

        Args:
            path: of the folder; ~ is the user's home.
        """
        self.path = Path(path).expanduser()

    def check(self) -> None:
        """Make the folder, and see that there is room in it.

        Raises:
            EpisodeError: nothing can be written there.
        """
        with self._explained():
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(0, "this user may not write there")
            free = shutil.disk_usage(self.path).free
        if free < LEAST_FREE_BYTES:
            raise EpisodeError(
                f"no room for episodes in {self.path}: {free / 1e6:.0f} MB are free, "
                f"{LEAST_FREE_BYTES / 1e6:.0f} MB are left alone; make room, or set record_folder "
                "to a folder on another disk"
            )

    def create(self, name: str) -> BinaryIO:
        """A new file, not whole yet.

        Raises:
            EpisodeError: it cannot be made.
        """
        self.check()
        with self._explained():
            if (self.path / name).exists():
                raise FileExistsError(0, f"{name} exists")
            file = (self.path / f"{name}{PARTIAL}").open("xb")
            _lock(file)
            return file

    def complete(self, name: str, file: BinaryIO) -> None:
        """Give a file its name, once it is on the disk; closes it.

        Raises:
            EpisodeError: that failed; the file is as it was.
        """
        with self._explained(), file:
            file.flush()
            os.fsync(file.fileno())
            (self.path / f"{name}{PARTIAL}").rename(self.path / name)

    def discard(self, name: str, file: BinaryIO) -> None:
        """Remove a file that is not whole.

        Raises:
            EpisodeError: it is still there.
        """
        with self._explained(), file:
            (self.path / f"{name}{PARTIAL}").unlink()

    def remove(self, name: str) -> None:
        """Remove a whole file.

        Raises:
            EpisodeError: it is still there, or was removed by somebody else.
        """
        with self._explained():
            (self.path / name).unlink()

    def revise(self, name: str, facts: Facts) -> None:
        """Change the result of a whole file; killed in the middle, it is as one that is not whole.

        Raises:
            EpisodeError: it is not there, or cannot be written.
        """
        with self._explained():
            (self.path / name).rename(self.path / f"{name}{PARTIAL}")
            self._end(name, facts)

    def recover(self) -> tuple[list[str], list[str]]:
        """Make whole what processes that were killed have left: up to where it was written.

        Returns:
            Names of the files, and why others cannot be made whole.
        """
        made, problems = [], []
        for partial in sorted(self.path.glob(f"*.mcap{PARTIAL}")):
            name = partial.name.removesuffix(PARTIAL)
            try:
                with self._explained():
                    if self._end(name, KILLED):
                        made.append(name)
            except (EpisodeError, NotMcapError) as error:
                problems.append(f"{partial} cannot be made whole: {error}")
        return made, problems

    def save(self, name: str, file: BinaryIO, ended: str) -> None:
        """Make whole what could be written of a file before an error; closes it.

        Raises:
            EpisodeError: that failed, too; the next start of a recorder tries again.
        """
        with suppress(OSError):  # what waits in its buffer may not fit
            file.close()
        try:
            with self._explained():
                self._end(name, {**result_facts(Result.UNKNOWN), "ended": ended})
        except NotMcapError as error:
            raise EpisodeError(str(error)) from error

    def _end(self, name: str, facts: Facts) -> bool:
        """End a file behind its whole part; whether nobody else is at it."""
        partial = self.path / f"{name}{PARTIAL}"
        with partial.open("r+b") as file:
            if not _lock(file):
                return False
            if not file.seek(0, os.SEEK_END):  # killed before the first byte
                partial.unlink()
                return False
            part = whole_part(file)
            written = end_of(part.summary, part.end, facts)
            file.seek(part.end)
            file.truncate()
            file.write(written)
            file.flush()
            os.fsync(file.fileno())
            partial.rename(self.path / name)
        return True

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EpisodeError(
                f"cannot write episodes to {self.path}: {error.strerror or error}; set "
                "record_folder to a folder that this user may write"
            ) from error


def _lock(file: BinaryIO) -> bool:
    """Say that this process is at a file; whether no other one is."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
