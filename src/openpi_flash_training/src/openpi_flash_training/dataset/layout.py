"""Where the files of a dataset lie, and how a file appears only when it is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from openpi_flash_training.episodes.error import DataError

V30, V21 = "v3.0", "v2.1"
FILES_IN_CHUNK = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200
INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
V21_DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V21_VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V21_TASKS = "meta/tasks.jsonl"
V21_EPISODES = "meta/episodes.jsonl"
V21_EPISODES_STATS = "meta/episodes_stats.jsonl"
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


def write_json_lines(path: Path, lines: Iterable[Any]) -> None:
    """Write a file of one JSON value a line at once."""
    with whole_file(path) as partial, partial.open("w") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_json_lines(path: Path) -> list[Any]:
    """Read a file of one JSON value a line.

    Raises:
        DataError: it is missing, or a line is not JSON.
    """
    try:
        lines = path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except FileNotFoundError:
        raise DataError(path, "is missing") from None
    except OSError as error:
        raise DataError(path, f"cannot read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(path, f"is not JSON, line by line: {error}") from error


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
