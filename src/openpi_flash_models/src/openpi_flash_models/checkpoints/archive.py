"""Unpacks downloaded tar archives, which are not trusted.

Regular files and directories only: without links nothing is written outside the target directory
(chains of links got past the standard library's filters, CVE-2025-4517). Disk and memory are
limited before they are used, whatever the archive's headers say.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from openpi_flash_models.errors import CheckpointError

_BLOCK = 2**20
_LONGEST_NAME, _LONGEST_PATH = 255, 1024
_COMPRESSED = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)


@dataclass(frozen=True)
class ArchiveLimits:
    """Limits of an archive.

    Attributes:
        nbytes: bytes of all files together; the free space of the disk is a limit too.
        files: number of files and directories.
    """

    nbytes: int = 128 * 2**30
    files: int = 100_000


def unpack(file: Path, directory: Path, limits: ArchiveLimits = ArchiveLimits()) -> None:
    """Unpack a tar archive, plain or compressed by gzip, bzip2 or xz.

    Args:
        file: the archive.
        directory: an empty directory.
        limits: see the class.

    Raises:
        CheckpointError: the archive is incomplete, holds anything but regular files and
            directories, a name that leads outside, a name twice, or more than the limits allow.
            Files that were already unpacked stay: the caller deletes the directory.
    """
    free = shutil.disk_usage(directory).free
    most = min(limits.nbytes, free)
    try:
        with _opened(file) as stream:
            limited = _Limited(stream, most + limits.files * tarfile.BLOCKSIZE * 4)
            with tarfile.open(fileobj=limited, mode="r:") as archive:
                _unpack_members(archive, directory, limits, most)
    except _BROKEN as error:
        raise CheckpointError(f"{file} cannot be unpacked: {error}") from error


class _RefusedError(Exception):
    """An archive that breaks a rule."""


_BROKEN = (
    _RefusedError,
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    ValueError,  # numbers and names that tarfile does not expect
)


def _unpack_members(
    archive: tarfile.TarFile, directory: Path, limits: ArchiveLimits, most: int
) -> None:
    count, left = 0, most
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
        count += 1
        if count > limits.files:
            raise _RefusedError(f"it holds more than {limits.files} files")
        target = directory.joinpath(*_parts(member.name))
        try:
            (target if member.isdir() else target.parent).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise _RefusedError(
                f"{_shown(member.name)} is in it as a file and as a directory"
            ) from None
        if member.isdir():
            continue
        if not member.isreg() or member.issparse():
            raise _RefusedError(f"{_shown(member.name)} is {_kind(member)}, not a regular file")
        if member.size > left:
            raise _RefusedError(
                f"{_shown(member.name)} would make it larger than {most:,} bytes, which is the "
                "limit"
            )
        left -= member.size
        content = archive.extractfile(member)
        assert content is not None, "it is a regular file"
        _write(content, target, member)


def _write(content: IO[bytes], target: Path, member: tarfile.TarInfo) -> None:
    # never overwrites a file, never follows a link
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        opened = os.open(target, flags, 0o644)
    except FileExistsError:
        raise _RefusedError(f"{_shown(member.name)} is in it twice") from None
    with os.fdopen(opened, "wb") as file:
        shutil.copyfileobj(content, file, _BLOCK)
        if file.tell() != member.size:
            raise tarfile.ReadError(f"{_shown(member.name)} ends early")


def _parts(name: str) -> tuple[str, ...]:
    """The components of a member's name, none of which leads outside."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise _RefusedError(f"{_shown(name)} would be written outside the directory")
    encoded = name.encode("utf-8", "surrogateescape")
    if (
        b"\0" in encoded
        or len(encoded) > _LONGEST_PATH
        or any(len(part.encode("utf-8", "surrogateescape")) > _LONGEST_NAME for part in path.parts)
    ):
        raise _RefusedError(f"{_shown(name)} is not a name that a file can have")
    return path.parts


def _opened(file: Path) -> IO[bytes]:
    with file.open("rb") as stream:
        start = stream.read(8)
    for magic, open_compressed in _COMPRESSED:
        if start.startswith(magic):
            opened: Any = open_compressed(file, "rb")
            return opened
    return file.open("rb")


class _Limited(io.RawIOBase):
    """A stream with a limit on its length, and on the length of one read.

    tarfile reads a header in one piece and skips data, both of the length that the archive says.
    """

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream = stream
        self._most = most

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET or offset > self._most:
            raise _RefusedError(f"it is larger than {self._most:,} bytes")
        return self._stream.seek(offset)

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _BLOCK:
            raise _RefusedError("one of its headers is longer than a name can be")
        if self.tell() + size > self._most:
            size = max(0, self._most - self.tell())
        return self._stream.read(size)


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "a link"
    if member.issparse():
        return "a sparse file"
    return "a device or a pipe" if member.isdev() else f"an entry of type {member.type!r}"


def _shown(name: str) -> str:
    text = ascii(name)[1:-1]
    return text if len(text) <= 100 else f"{text[:97]}..."
