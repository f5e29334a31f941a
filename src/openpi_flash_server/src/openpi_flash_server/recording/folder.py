"""The folder of recordings: names of files, which old ones make room, and whether there is any."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from openpi_flash_server.recording.mcap_file import McapFile

REQUESTS, BLACK_BOX = "requests", "black-box"
"""What the names of files begin with."""

BLACK_BOXES = 20
"""Files of errors that are kept."""


class DiskFullError(OSError):
    """There is less free space than the operator wants to keep."""


@dataclass(frozen=True, slots=True)
class OldFile:
    """A file of the folder."""

    path: Path
    size: int


def to_delete(files: Sequence[OldFile], *, limit: int) -> list[OldFile]:
    """The oldest files that must go, so that the rest has at most `limit` bytes. Pure.

    Args:
        files: oldest first.
        limit: bytes.
    """
    excess = sum(file.size for file in files) - limit
    gone = []
    for file in files:
        if excess <= 0:
            break
        gone.append(file)
        excess -= file.size
    return gone


class Folder:
    """A folder that only this server writes to.

    Args:
        directory: is made if it does not exist.
        file_bytes: of one file of requests.
        max_bytes: of all files of requests.
        min_free_bytes: of the disk.
        wall_clock_at_zero: ns since 1970 at 0 s of the records' clock.
    """

    def __init__(
        self,
        directory: Path,
        *,
        file_bytes: int,
        max_bytes: int,
        min_free_bytes: int,
        wall_clock_at_zero: int,
    ) -> None:
        self.directory = directory
        self.file_bytes = file_bytes
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._offset = wall_clock_at_zero
        self._number = 0

    def open_requests(self, at: float) -> McapFile:
        """A new file of requests; the oldest make room for it.

        Raises:
            OSError: the folder cannot be written to, or the disk is full.
        """
        self.check_space()
        for file in to_delete(self._files(REQUESTS), limit=self._max_bytes - self.file_bytes):
            file.path.unlink(missing_ok=True)
        return self._open(REQUESTS, at)

    def open_black_box(self, at: float) -> McapFile:
        """A new file of an error; the oldest of its kind make room.

        Raises:
            OSError: as `open_requests`.
        """
        self.check_space()
        for file in self._files(BLACK_BOX)[: 1 - BLACK_BOXES]:
            file.path.unlink(missing_ok=True)
        return self._open(BLACK_BOX, at)

    def check_space(self) -> None:
        """Whether there is room on the disk.

        Raises:
            DiskFullError: there is none.
            OSError: the folder cannot be made.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.directory).free
        if free < self._min_free_bytes:
            raise DiskFullError(
                f"{free / 1e9:.2f} GB are free on the disk of {self.directory}, "
                f"{self._min_free_bytes / 1e9:.2f} GB are to stay free (recording.min_free_gb)"
            )

    def check_writable(self) -> None:
        """As `check_space`, and whether a file can be made.

        Raises:
            OSError: it cannot.
        """
        self.check_space()
        with tempfile.TemporaryFile(dir=self.directory):
            pass

    def _files(self, kind: str) -> list[OldFile]:
        """The files of a kind, oldest first: their names begin with their times."""
        found = []
        for path in sorted(self.directory.glob(f"{kind}-*.mcap")):
            if path.is_file():
                found.append(OldFile(path, path.stat().st_size))
        return found

    def _open(self, kind: str, at: float) -> McapFile:
        moment = datetime.fromtimestamp((self._offset + at * 1e9) / 1e9, timezone.utc)
        while True:
            # counted on, so that names of one second have the order of the files
            self._number += 1
            path = self.directory / f"{kind}-{moment:%Y%m%dT%H%M%SZ}-{self._number:06d}.mcap"
            try:
                return McapFile(path, wall_clock_at_zero=self._offset)
            except FileExistsError:
                continue
