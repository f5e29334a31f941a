"""Whether other users of this computer can change whom a client trusts."""

from __future__ import annotations

import logging
import stat
import threading
from os import PathLike
from pathlib import Path

__all__ = ["warn_of_other_writers"]

_LOGGER = logging.getLogger("flash_transport")
_LOCK = threading.Lock()
_WARNED: set[Path] = set()


def warn_of_other_writers(known_servers: str | PathLike[str]) -> None:
    """Warns, once per process and file, if others may write a file of known servers.

    Whoever can write it, or replace it in its directory, decides which servers are trusted. A
    directory with the sticky bit (`/tmp`) lets nobody replace the file of another.

    Args:
        known_servers: the file; it need not exist yet.
    """
    path = Path(known_servers).absolute()
    with _LOCK:
        if path in _WARNED:
            return
        _WARNED.add(path)
    for place in (path, path.parent):
        try:
            mode = place.stat().st_mode
        except OSError:
            continue
        is_sticky = stat.S_ISDIR(mode) and mode & stat.S_ISVTX
        if mode & 0o022 and not is_sticky:
            _LOGGER.warning(
                "%s has mode %04o: other users of this computer can change which servers are "
                "trusted; run `chmod go-w %s`",
                place,
                stat.S_IMODE(mode),
                place,
            )
