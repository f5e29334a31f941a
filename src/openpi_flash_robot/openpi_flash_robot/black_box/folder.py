"""Where the files go: their names, which are removed, and how full the disk may become."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

LEAST_FREE_BYTES = 200_000_000
"""Below this much free space nothing is written: a robot with a full disk has other troubles."""
PART = ".part"
"""Ends the name of a file that is not whole yet. Of a process that was killed it stays: it can be
drawn as far as it goes."""


class BlackBoxError(Exception):
    """A file cannot be written. Raised for the user: names the place and what to do."""


def default_folder(environment: Mapping[str, str]) -> str:
    """Beside ROS's own logs: `openpi_flash` in $ROS_HOME, which is ~/.ros unless it is set."""
    return str(Path(environment.get("ROS_HOME") or "~/.ros") / "openpi_flash")


def file_name(node: str, at: datetime, cause: str) -> str:
    """A name that sorts by time.

    Args:
        node: full name of the node, such as /openpi/client_node.
        at: now, UTC.
        cause: why the file is written.
    """
    return f"{_stem(node)}_{at:%Y-%m-%dT%H-%M-%SZ}_{cause}.mcap"


class Folder:
    """The folder of one node's files."""

    def __init__(self, path: str, node: str, kept: int) -> None:
        """Touch nothing yet.

        Args:
            path: of the folder; ~ is the user's home.
            node: full name of the node; files of other nodes are left alone.
            kept: how many files are kept.
        """
        self.path = Path(path).expanduser()
        self._kept = kept
        self._ours = re.compile(
            rf"{re.escape(_stem(node))}_\d{{4}}-\d\d-\d\dT\d\d-\d\d-\d\dZ_[a-z_]+\.mcap({PART})?"
        )

    def check(self) -> None:
        """Make the folder.

        Raises:
            BlackBoxError: nothing can be written there.
        """
        with self._explained():
            self.path.mkdir(parents=True, exist_ok=True)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(0, "this user may not write there")
            self._check_space()

    @contextmanager
    def new_file(self, name: str) -> Iterator[IO[bytes]]:
        """A file to write; it has its name once it is whole and on the disk.

        The oldest files beyond `kept` are removed.

        Raises:
            BlackBoxError: it could not be written; nothing is left of it.
        """
        part = self.path / f"{name}{PART}"
        with self._explained():
            self.path.mkdir(parents=True, exist_ok=True)
            self._check_space()
            try:
                with part.open("wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                part.rename(self.path / name)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            self._remove_oldest()

    def check_space(self) -> None:
        """See that there is room for more; for the middle of a file.

        Raises:
            BlackBoxError: there is none.
        """
        with self._explained():
            self._check_space()

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.path).free
        if free < LEAST_FREE_BYTES:
            raise BlackBoxError(
                f"the black box writes nothing to {self.path}: {free / 1e6:.0f} MB are free there, "
                f"it leaves {LEAST_FREE_BYTES / 1e6:.0f} MB alone; make room, or set "
                "black_box_folder to a folder on another disk"
            )

    def _remove_oldest(self) -> None:
        ours = sorted(path for path in self.path.iterdir() if self._ours.fullmatch(path.name))
        for path in ours[: max(0, len(ours) - self._kept)]:
            path.unlink()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BlackBoxError(
                f"the black box cannot write to {self.path}: {error.strerror or error}; set "
                "black_box_folder to a folder that this user may write, or black_box_seconds to 0"
            ) from error


def _stem(node: str) -> str:
    return node.strip("/").replace("/", ".")
