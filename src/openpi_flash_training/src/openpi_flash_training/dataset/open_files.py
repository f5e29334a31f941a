"""Keeps the files open that were read last, for each thread of each process."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """An open file."""

    def close(self) -> None:
        """Close it."""


File = TypeVar("File", bound=Closable)


class OpenFiles(threading.local, Generic[File]):
    """The last few files by path; a file that was replaced is opened anew."""

    def __init__(self, opener: Callable[[Path], File], most: int) -> None:
        """Keep nothing open yet.

        Args:
            opener: opens a file.
            most: files that are kept.
        """
        self._opener = opener
        self._most = most
        self._process = os.getpid()
        self._files: OrderedDict[Path, tuple[tuple[int, ...], File]] = OrderedDict()
        self._inherited: list[object] = []

    def get(self, path: Path) -> File:
        """An open file.

        Raises:
            OSError: there is none; and whatever the opener raises.
        """
        if self._process != os.getpid():
            # a forked child shares file offsets with its parent, so it opens its own; it must not
            # close the parent's, whose decoders wait for threads that the child does not have
            self._inherited.append(self._files)
            self._process, self._files = os.getpid(), OrderedDict()
        status = path.stat()
        identity = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        known = self._files.pop(path, None)
        if known is not None and known[0] != identity:
            known[1].close()
            known = None
        file = self._opener(path) if known is None else known[1]
        self._files[path] = (identity, file)
        if len(self._files) > self._most:
            self._files.popitem(last=False)[1][1].close()
        return file
