"""Reading files that users name, without blocking on a fifo or a device."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["read_regular_file"]

MAX_BYTES = 1 << 20


def read_regular_file(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: it cannot be read, is not a regular file, or holds more than `max_bytes`; the text
            says which.
    """
    # without O_NONBLOCK, opening a fifo waits for a writer
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(f"it is {_kind(mode)}, expected a file")
        # one byte more than allowed shows that the file is too large
        content = _read(descriptor, max_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise OSError(f"it holds more than {max_bytes} bytes, which none of its kind does")
    return content


def _read(descriptor: int, at_most: int) -> bytes:
    content = bytearray()
    while len(content) < at_most and (part := os.read(descriptor, at_most - len(content))):
        content += part
    return bytes(content)


def _kind(mode: int) -> str:
    for is_kind, name in _KINDS:
        if is_kind(mode):
            return name
    return "no regular file"


_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a fifo"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
