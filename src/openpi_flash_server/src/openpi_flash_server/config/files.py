"""Files that the configuration names: their paths, and the keys in `api_key_file`."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path


def user_path(text: str) -> Path:
    """The path that `text` means, with `~` as the home directory.

    Raises:
        ValueError: there is no home directory.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(
            f"~ has no meaning here, as HOME is not set; write {text!r:.200} as an absolute path"
        ) from None


def state_directory(state_dir: str | None, environment: Mapping[str, str]) -> Path:
    """Where the server keeps its certificate, so that its fingerprint outlives a restart.

    Args:
        state_dir: as configured.
        environment: for HOME and XDG_STATE_HOME.

    Raises:
        ValueError: none is configured, and there is no home directory.
    """
    if state_dir is not None:
        return user_path(state_dir)
    kept = environment.get("XDG_STATE_HOME")
    if kept:
        return Path(kept) / "openpi-flash"
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    if not home.is_absolute():
        raise ValueError(
            "missing, and neither HOME nor XDG_STATE_HOME names a directory to keep the "
            "certificate in; set state_dir to one that the server may write to"
        )
    return home / ".local" / "state" / "openpi-flash"


def read_keys(path: Path) -> tuple[str, ...]:
    """The API keys in a file, one a line; empty lines and those that begin with # are left out.

    Raises:
        ValueError: it cannot be read, or a line is no key; names the line and never shows it.
    """
    try:
        # O_NONBLOCK: opening a fifo must not wait for a writer
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as f:
            if not stat.S_ISREG(os.fstat(f.fileno()).st_mode):
                raise ValueError(f"{path}: not a regular file")
            data = f.read(_LARGEST_KEY_FILE + 1)
    except OSError as error:
        raise ValueError(f"{path}: {(error.strerror or 'unreadable').lower()}") from None
    if len(data) > _LARGEST_KEY_FILE:
        raise ValueError(f"{path}: larger than {_LARGEST_KEY_FILE} bytes, not a file of keys")
    keys = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        key = text.decode("latin-1")
        if not is_key(key):
            raise ValueError(f"{path}: line {number} {KEY_RULE}")
        keys.append(key)
    if not keys:
        raise ValueError(f"{path}: holds no key; write one a line")
    return tuple(keys)


def key_file_warning(path: Path) -> str:
    """What to say of a file of keys that other users of the machine can read or write; "" if none.

    Args:
        path: of a file that `read_keys` has read.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return ""
    if not mode & 0o077:
        return ""
    return (
        f"{path} has mode {mode:04o}: other users of this machine have access to its keys; "
        f"run `chmod 600 {path}`"
    )


def is_key(text: str) -> bool:
    """Whether `text` can travel in an HTTP header."""
    return bool(text) and all("!" <= character <= "~" for character in text)


KEY_RULE = "must be printable ASCII without spaces, and not empty"
_LARGEST_KEY_FILE = 64 * 1024
