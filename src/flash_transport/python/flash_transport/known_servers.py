"""The file of known servers: trust on first use, as the compiled client does it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flash_transport.errors import UntrustedServer
from flash_transport.fingerprint import parse_fingerprint
from flash_transport.regular_files import read_regular_file

__all__ = ["LOCK_INTERVAL_S", "FileProblem", "KnownServers"]

LOCK_INTERVAL_S = 0.01
"""Between attempts to take the lock, which others hold for one small write."""


class FileProblem(Exception):  # noqa: N818 - never seen outside
    """The file of known servers cannot be used."""


class KnownServers:
    """A file with the fingerprint of each known server, one a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def is_known(self, server: str, got: bytes) -> bool:
        """Whether the file has the server, and with this fingerprint.

        Args:
            server: `host:port`, as the user named it.
            got: fingerprint of its certificate.

        Raises:
            UntrustedServer: the file has it with another one.
            FileProblem: the file cannot be used.
        """
        known = self._look_up(server)
        if known is None:
            return False
        line, expected = known
        if expected != got:
            raise UntrustedServer(
                f"certificate of {server} has fingerprint {got.hex()}, but line {line} of "
                f"{self._path} knows it by {expected.hex()}; an attacker may be impersonating the "
                "server. If its certificate was changed on purpose, delete that line and connect "
                "again"
            )
        return True

    def try_add(self, server: str, got: bytes) -> bool:
        """Adds the server, unless it is known; returns False if another program holds the lock.

        Raises:
            UntrustedServer: another program has added it with another fingerprint.
            FileProblem: the file cannot be used.
        """
        with self._lock() as is_ours:
            if is_ours and not self.is_known(server, got):
                self._add(server, got)
            return is_ours

    def locked(self) -> FileProblem:
        """The error for a lock that stays with another program."""
        return FileProblem(
            f"another program holds the lock of {self._path.resolve().parent}, where the file of "
            f"known servers {self._path.name} is; end that program"
        )

    def _look_up(self, server: str) -> tuple[int, bytes] | None:
        """Line and fingerprint of a server's entry."""
        found = None
        for number, line in enumerate(self._read().splitlines(), 1):
            name, _, fingerprint = line.strip().partition(" ")
            if not name or name.startswith("#"):
                continue
            try:
                known = parse_fingerprint(fingerprint)
            except ValueError:
                # it might be the entry of this server
                raise FileProblem(
                    f'line {number} of {self._path} must be "host:port sha256:<64 hex digits>", '
                    "mend or delete it"
                ) from None
            # host names are case-insensitive
            if found is None and name.lower() == server.lower():
                found = (number, known)
        return found

    def _read(self) -> str:
        try:
            return read_regular_file(self._path).decode()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            raise FileProblem(
                f"cannot read the file of known servers {self._path}: {error}"
            ) from None

    def _add(self, server: str, got: bytes) -> None:
        text = self._read()
        if text and not text.endswith("\n"):
            text += "\n"
        target = self._path.resolve()  # a symbolic link is followed, and stays
        if self._path.is_symlink() and not target.exists():
            raise FileProblem(
                f"cannot write the file of known servers {self._path}: it is a symbolic link to a "
                "file that does not exist"
            )
        try:
            descriptor, partial = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(f"{text}{server.lower()} sha256:{got.hex()}\n")
                Path(partial).replace(target)
            except BaseException:
                Path(partial).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._unwritable(error) from None

    @contextlib.contextmanager
    def _lock(self) -> Iterator[bool]:
        """Takes the directory's lock if it is free. Does not wait: that would block event loops."""
        directory = self._path.resolve().parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)

    def _unwritable(self, error: OSError) -> FileProblem:
        return FileProblem(f"cannot write the file of known servers {self._path}: {error}")
