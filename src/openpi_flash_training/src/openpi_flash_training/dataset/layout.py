"""Where the files of a dataset lie, and how a file appears only when it is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from openpi_flash_training.episodes.error import DataError

VERSION = "v3.0"
FILES_IN_CHUNK = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
STAGED = ".staged"
"""Episodes that are whole, but not yet in the files above."""


class FilePlace(NamedTuple):
    """Which of the numbered files: ``chunk-<chunk>/file-<file>``."""

    chunk: int
    file: int

    def next(self, files_in_chunk: int) -> FilePlace:
        """The file after it."""
        if self.file + 1 >= files_in_chunk:
            return FilePlace(self.chunk + 1, 0)
        return FilePlace(self.chunk, self.file + 1)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of a file, which becomes the file at the end.

    The folder is made. Whoever reads finds the old file or the new one, never a part of it.

    Raises:
        DataError: the system refuses: a full disk, missing permission.
    """
    partial = path.with_name(f".{path.name}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise DataError(path, f"cannot write: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file at once."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=4, ensure_ascii=False) + os.linesep)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(path, "is missing: not a LeRobot dataset") from None
    except OSError as error:
        raise DataError(path, f"cannot read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(path, f"is not JSON: {error}") from error
