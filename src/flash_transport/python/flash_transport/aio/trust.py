"""Which servers a client trusts: a pinned certificate, an authority, or known servers."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from flash_transport.errors import UntrustedServer
from flash_transport.known_servers_access import warn_of_other_writers
from flash_transport.outside_text import quoted, shown
from flash_transport.regular_files import read_regular_file
from flash_transport.unpinned import warn_unpinned

__all__ = ["Trust", "why_not_authorised"]


@dataclass(frozen=True)
class Trust:
    """How to verify a server. Without any of the three every server is accepted.

    Attributes:
        fingerprint: SHA-256 of its certificate.
        ca_file: the file of `authorities`, for messages.
        authorities: PEM certificates of authorities; one must have signed the server's, for its
            host.
        known_servers: file of known servers, one a line.
    """

    fingerprint: bytes | None = None
    ca_file: Path | None = None
    authorities: bytes | None = None
    known_servers: Path | None = None

    @classmethod
    def of(
        cls,
        server_fingerprint: str | None,
        ca_file: str | os.PathLike[str] | None,
        known_servers: str | os.PathLike[str] | None,
    ) -> Trust:
        """The trust settings from a client's keywords.

        Raises:
            ValueError: more than one of them, or one that is malformed.
        """
        if sum(x is not None for x in (server_fingerprint, ca_file, known_servers)) > 1:
            raise ValueError(
                "give one of server_fingerprint, ca_file and known_servers: each of them decides "
                "alone whom to trust"
            )
        if server_fingerprint is not None:
            return cls(fingerprint=_parse_fingerprint(server_fingerprint))
        if ca_file is not None:
            path = Path(ca_file)
            return cls(ca_file=path, authorities=_read_authorities(path))
        if known_servers is None:
            return cls()
        warn_of_other_writers(known_servers)
        return cls(known_servers=Path(known_servers))

    async def check(self, server: str, certificate: bytes, lock_s: float) -> None:
        """Decides on a server (`host:port`) whose handshake has proved that it owns `certificate`.

        TLS has checked the authorities' signature already. A server that was not known is added to
        `known_servers`, and one that nothing authenticates is reported once.

        Args:
            server: as the user named it.
            certificate: in DER form.
            lock_s: seconds to wait for another program that holds the lock of `known_servers`.

        Raises:
            UntrustedServer: it is another server, or the file of known servers cannot be used.
        """
        got = hashlib.sha256(certificate).digest()
        if self.fingerprint is not None and got != self.fingerprint:
            raise UntrustedServer(
                f"certificate of {server} has fingerprint {got.hex()}, not the pinned "
                f"{self.fingerprint.hex()}; if the server's certificate was changed on purpose, "
                "pin the new one"
            )
        if self.known_servers is not None:
            try:
                await _check_known(self.known_servers, server, got, lock_s)
            except _FileProblem as error:
                raise UntrustedServer(
                    f"certificate of {server} cannot be checked: {error}"
                ) from None
        if self == Trust():
            warn_unpinned(server, got.hex())


class _FileProblem(Exception):  # noqa: N818 - never seen outside
    """The file of known servers cannot be used."""


def why_not_authorised(server: str, ca_file: Path, alert: int, reason: str) -> UntrustedServer:
    """The meaning of a TLS alert about a certificate, in words."""
    if alert == _EXPIRED:
        reason = "it has expired"
    elif "match" in reason:
        reason = "it is for another host; connect by a name or address that the certificate lists"
    return UntrustedServer(
        f"certificate of {server} is not accepted by the authorities of {ca_file}: {shown(reason)}"
    )


def _parse_fingerprint(text: str) -> bytes:
    """Parses a fingerprint: either case, with or without colons and `sha256:`."""
    digits = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError(
            f"server_fingerprint must be the 64 hex digits of a SHA-256, got {quoted(text)}"
        )
    return bytes.fromhex(digits)


def _read_authorities(path: Path) -> bytes:
    try:
        content = read_regular_file(path, MAX_CA_BYTES)
        x509.load_pem_x509_certificates(content)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"ca_file {path} holds no certificates of authorities in PEM form: {shown(str(error))}"
        ) from None
    return content


async def _check_known(path: Path, server: str, got: bytes, lock_s: float) -> None:
    known = _look_up(path, server)
    if known is None:
        async with _locked(path, lock_s):
            # another program may have been faster
            known = _look_up(path, server)
            if known is None:
                return _add(path, server, got)
    line, expected = known
    if expected != got:
        raise UntrustedServer(
            f"certificate of {server} has fingerprint {got.hex()}, but line {line} of {path} "
            f"knows it by {expected.hex()}; an attacker may be impersonating the server. "
            "If its certificate "
            "was changed on purpose, delete that line and connect again"
        )
    return None


def _look_up(path: Path, server: str) -> tuple[int, bytes] | None:
    """Line and fingerprint of a server's entry."""
    found = None
    for number, line in enumerate(_read(path).splitlines(), 1):
        name, _, fingerprint = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        try:
            known = _parse_fingerprint(fingerprint)
        except ValueError:
            # it might be the entry of this server
            raise _FileProblem(
                f'line {number} of {path} must be "host:port sha256:<64 hex digits>", '
                "mend or delete it"
            ) from None
        # host names are case-insensitive
        if found is None and name.lower() == server.lower():
            found = (number, known)
    return found


def _read(path: Path) -> str:
    try:
        return read_regular_file(path).decode()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise _FileProblem(f"cannot read the file of known servers {path}: {error}") from None


def _add(path: Path, server: str, got: bytes) -> None:
    text = _read(path)
    if text and not text.endswith("\n"):
        text += "\n"
    target = path.resolve()  # a symbolic link is followed, and stays
    if path.is_symlink() and not target.exists():
        raise _FileProblem(
            f"cannot write the file of known servers {path}: it is a symbolic link to a file that "
            "does not exist"
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
        raise _FileProblem(f"cannot write the file of known servers {path}: {error}") from None


@contextlib.asynccontextmanager
async def _locked(path: Path, lock_s: float) -> AsyncIterator[None]:
    """Holds the directory's lock, as the compiled client does."""
    directory = path.resolve().parent
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _FileProblem(f"cannot write the file of known servers {path}: {error}") from None
    try:
        until = asyncio.get_running_loop().time() + lock_s
        while not _lock(descriptor):
            if asyncio.get_running_loop().time() >= until:
                raise _FileProblem(
                    f"another program holds the lock of {directory}, where the file of known "
                    f"servers {path.name} is; end that program"
                )
            await asyncio.sleep(LOCK_INTERVAL_S)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Takes the lock if it is free. Does not wait: that would block the event loop."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


MAX_CA_BYTES = 16 << 20
LOCK_INTERVAL_S = 0.01
_EXPIRED = 45
"""TLS's alert certificate_expired."""
