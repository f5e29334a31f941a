"""Downloads one file: resumes where it stopped, and checks the file before it gets its name."""

from __future__ import annotations

import base64
import hashlib
import http.client
import threading
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from openpi_flash_models.downloads.connection import open_url
from openpi_flash_models.downloads.crc32c import Crc32c
from openpi_flash_models.downloads.listing import RemoteFile, refusal, unreachable
from openpi_flash_models.errors import DownloadError

ATTEMPTS = 5
_CHUNK = 2**20
PART = ".part"
_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
_RETRY = {408, 425, 429, 500, 502, 503, 504}

Report = Callable[[int], None]


class CancelledError(Exception):
    """Another file of the same download failed."""


class _TryAgainError(Exception):
    """A failure that a retry may cure."""


def transfer(
    file: RemoteFile,
    target: Path,
    report: Report,
    stop: threading.Event,
    pause: Callable[[float], Any] = time.sleep,
) -> None:
    """Fetch a file.

    Args:
        file: what to fetch.
        target: the file to write; ``<target>.part`` holds it until it is complete and checked.
        report: takes the number of received bytes; a negative number takes some back.
        stop: set to cancel the transfer.
        pause: waits between attempts.

    Raises:
        DownloadError: it could not be fetched; received bytes are kept for the next attempt.
        CancelledError: ``stop`` was set.
    """
    part = target.with_name(target.name + PART)
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            pause(_PAUSES_S[min(attempt, len(_PAUSES_S)) - 1])
        try:
            _attempt(file, part, report, stop)
        except _TryAgainError as error:
            problem = str(error)
            continue
        part.replace(target)
        return
    raise DownloadError(f"{problem} ({ATTEMPTS} attempts); run it again to go on from there")


def _attempt(file: RemoteFile, part: Path, report: Report, stop: threading.Event) -> None:
    check = _Check(file)
    have = part.stat().st_size if part.exists() else 0
    if file.size is None or have > file.size:
        have = 0
    if have:
        with part.open("rb") as stream:
            while block := stream.read(_CHUNK):
                check.update(block)
    report(have)
    if have == 0 or have != file.size:
        have = _receive(file, part, have, check=check, report=report, stop=stop)
    problem = check.problem(have)
    if problem:
        part.unlink(missing_ok=True)
        report(-have)
        raise _TryAgainError(f"{file.url}: {problem}")


def _receive(
    file: RemoteFile,
    part: Path,
    have: int,
    *,
    check: _Check,
    report: Report,
    stop: threading.Event,
) -> int:
    """Append the missing bytes; returns the number of bytes in the file."""
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        with open_url(file.url, headers) as answer:
            if have and answer.status != 206:  # the server starts over, so the checksums must too
                report(-have)
                have = 0
                check.reset()
            with _opened(part, "ab" if have else "wb") as stream:
                while block := answer.read(_CHUNK):
                    if stop.is_set():
                        report(-have)
                        raise CancelledError
                    _write(stream, part, block)
                    check.update(block)
                    have += len(block)
                    report(len(block))
    except urllib.error.HTTPError as error:
        error.close()
        report(-have)
        if error.code == 416:
            part.unlink(missing_ok=True)
        elif error.code not in _RETRY:
            raise refusal(file.url, error.code) from None
        raise _TryAgainError(f"{file.url}: the server answered HTTP {error.code}") from None
    except (OSError, http.client.HTTPException) as error:  # of the connection, TLS's too
        report(-have)
        raise _TryAgainError(str(unreachable(file.url, error))) from error
    if file.size is not None and have < file.size:
        report(-have)
        raise _TryAgainError(f"{file.url}: the server sent {have} of {file.size} bytes")
    return have


def _opened(part: Path, mode: str) -> BinaryIO:
    try:
        return cast("BinaryIO", part.open(mode))
    except OSError as error:
        raise _disk_error(part, error) from error


def _write(stream: BinaryIO, part: Path, block: bytes) -> None:
    try:
        stream.write(block)
        stream.flush()
    except OSError as error:
        raise _disk_error(part, error) from error


def _disk_error(part: Path, error: OSError) -> DownloadError:
    return DownloadError(f"cannot write {part}: {error.strerror or error}")


class _Check:
    """Size and the best checksum that the server has."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self.reset()

    def reset(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False) if self._file.md5 else None
        self._crc = Crc32c() if self._file.crc32c and not self._file.md5 else None

    def update(self, block: bytes) -> None:
        if self._md5 is not None:
            self._md5.update(block)
        if self._crc is not None:
            self._crc.update(block)

    def problem(self, size: int) -> str:
        file = self._file
        if file.size is not None and size != file.size:
            return f"got {size} bytes, expected {file.size}"
        if self._md5 is not None:
            found = base64.b64encode(self._md5.digest()).decode()
            return "" if found == file.md5 else f"MD5 is {found}, expected {file.md5}"
        if self._crc is not None:
            found = self._crc.digest()
            return "" if found == file.crc32c else f"CRC-32C is {found}, expected {file.crc32c}"
        return ""
