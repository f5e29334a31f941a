"""Reads whole files of a checkpoint; errors name the file and what is wrong with it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from openpi_flash_models.errors import CheckpointError, DownloadError

_LFS_STARTS = (
    b"version https://git-lfs.github.com/spec/",
    b"version https://hawser.github.com/spec/",  # the specification before its first release
)
_LFS_LONGEST = 1024
"""A Git LFS pointer is shorter than this (git-lfs, docs/spec.md)."""


def refuse_lfs_pointer(path: Path, start: bytes) -> None:
    """Refuse a file that is a Git LFS pointer.

    Args:
        path: of the file.
        start: its first bytes.

    Raises:
        CheckpointError: it is a Git LFS pointer.
    """
    if start.startswith(_LFS_STARTS):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file that it stands for; run git lfs pull in "
            "the repository that it was cloned from"
        )


def refuse_lfs_pointers(directory: Path) -> None:
    """Refuse a directory in which a file, however deep, is a Git LFS pointer.

    Only files that are short enough for one are opened.

    Raises:
        CheckpointError: names the pointer, or the file that cannot be read.
    """
    try:
        for path in sorted(directory.rglob("*")):
            status = path.stat()
            if stat.S_ISREG(status.st_mode) and status.st_size < _LFS_LONGEST:
                refuse_lfs_pointer(path, path.read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"cannot read {error.filename or directory}: {error.strerror or error}"
        ) from error


def expand_home(path: str | os.PathLike[str], *, instead: str = "give a whole path") -> Path:
    """A path whose ``~`` is the user's home directory.

    Args:
        path: as a user wrote it.
        instead: what the user should do without a home directory, for the error.

    Raises:
        DownloadError: it begins with ``~``, and there is no home directory.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise DownloadError(
            f"{os.fspath(path)}: there is no home directory (HOME is not set); {instead}"
        ) from None


def read_bytes(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it cannot be read, is not a regular file, or is a Git LFS pointer.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would block
            raise CheckpointError(f"{path} is not a regular file")
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    refuse_lfs_pointer(path, content)
    return content


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file.

    Args:
        path: of the file.
        what: what it should be, for the error: ``a norm_stats.json``.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: as :func:`read_bytes`, or it is not JSON in UTF-8.
    """
    content = read_bytes(path)
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not {what}: {error}") from error
