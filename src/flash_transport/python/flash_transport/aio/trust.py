"""Whom a client trusts: a pinned certificate, an authority, or whom it met before."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from flash_transport.errors import UntrustedServer

__all__ = ["Trust", "why_not_authorised"]


@dataclass(frozen=True)
class Trust:
    """What a server must show; without any of the three nobody is asked.

    Attributes:
        fingerprint: SHA-256 of its certificate.
        ca_file: PEM of the authorities of which one must have signed it, for its host.
        known_servers: file of the servers that were met before, one a line.
    """

    fingerprint: bytes | None = None
    ca_file: Path | None = None
    known_servers: Path | None = None

    @classmethod
    def of(
        cls,
        server_fingerprint: str | None,
        ca_file: str | os.PathLike[str] | None,
        known_servers: str | os.PathLike[str] | None,
    ) -> Trust:
        """From the keywords of a client.

        Raises:
            ValueError: more than one of them, or one that says nothing.
        """
        if sum(x is not None for x in (server_fingerprint, ca_file, known_servers)) > 1:
            raise ValueError(
                "give one of server_fingerprint, ca_file and known_servers: each of them decides "
                "alone whom to trust"
            )
        if server_fingerprint is not None:
            return cls(fingerprint=_parse_fingerprint(server_fingerprint))
        if ca_file is not None:
            return cls(ca_file=_checked_authorities(Path(ca_file)))
        return cls(known_servers=None if known_servers is None else Path(known_servers))

    def check(self, server: str, certificate: bytes) -> None:
        """Judges a server (`host:port`) whose handshake has proved that `certificate` is its own.

        TLS has asked the authorities already; a server that was not known is written down.

        Raises:
            UntrustedServer: it is not the one.
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
                _check_known(self.known_servers, server, got)
            except _NotJudged as error:
                raise UntrustedServer(
                    f"certificate of {server} cannot be judged: {error}"
                ) from None


class _NotJudged(Exception):  # noqa: N818 - never seen outside
    """The file of known servers cannot be used."""


def why_not_authorised(server: str, ca_file: Path, alert: int, reason: str) -> UntrustedServer:
    """What a TLS alert about a certificate means."""
    if alert == _EXPIRED:
        reason = "it has expired"
    elif "match" in reason:
        reason = "it is for another host; connect by a name or address that the certificate lists"
    return UntrustedServer(
        f"certificate of {server} is not accepted by the authorities of {ca_file}: {reason}"
    )


def _parse_fingerprint(text: str) -> bytes:
    """From either case, with colons and `sha256:` or without."""
    digits = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError(f'server_fingerprint must be the 64 hex digits of a SHA-256, got "{text}"')
    return bytes.fromhex(digits)


def _checked_authorities(path: Path) -> Path:
    try:
        x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"ca_file {path} holds no certificates of authorities in PEM form: {error}"
        ) from None
    return path


def _check_known(path: Path, server: str, got: bytes) -> None:
    known = _look_up(path, server)
    if known is None:
        with _locked(path):
            # somebody else may have been faster
            known = _look_up(path, server)
            if known is None:
                return _add(path, server, got)
    line, expected = known
    if expected != got:
        raise UntrustedServer(
            f"certificate of {server} has fingerprint {got.hex()}, but line {line} of {path} "
            f"knows it by {expected.hex()}; somebody may be playing the server. If its certificate "
            "was changed on purpose, delete that line and connect again"
        )
    return None


def _look_up(path: Path, server: str) -> tuple[int, bytes] | None:
    """Line and fingerprint of a server."""
    found = None
    for number, line in enumerate(_read(path).splitlines(), 1):
        name, _, fingerprint = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        try:
            known = _parse_fingerprint(fingerprint)
        except ValueError:
            # it might have been the one of this server
            raise _NotJudged(
                f'line {number} of {path} must be "host:port sha256:<64 hex digits>", '
                "mend or delete it"
            ) from None
        # names of hosts do not know case
        if found is None and name.lower() == server.lower():
            found = (number, known)
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise _NotJudged(f"cannot read the file of known servers {path}: {error}") from None


def _add(path: Path, server: str, got: bytes) -> None:
    text = _read(path)
    if text and not text.endswith("\n"):
        text += "\n"
    target = path.resolve()  # a link stays a link
    partial = target.with_name(f".{target.name}.{os.getpid()}.aio")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{text}{server.lower()} sha256:{got.hex()}\n")
        partial.replace(target)
    except OSError as error:
        raise _NotJudged(f"cannot write the file of known servers {path}: {error}") from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the directory's lock, as the compiled client does."""
    directory = path.resolve().parent
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        raise _NotJudged(f"cannot write the file of known servers {path}: {error}") from None
    try:
        yield
    finally:
        os.close(descriptor)


_EXPIRED = 45
"""TLS's alert certificate_expired."""
