"""Which servers a client trusts over `wss://`: by a pin, known servers, or authorities."""

from __future__ import annotations

import hashlib
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flash_transport.errors import UntrustedServer
from flash_transport.fingerprint import (
    check_pin,
    parse_fingerprint,
    refuse_several_trusts,
)
from flash_transport.known_servers_access import warn_of_other_writers
from flash_transport.outside_text import shown
from flash_transport.regular_files import read_regular_file
from flash_transport.unpinned import warn_unpinned
from flash_transport.websocket.target import Target

__all__ = ["TlsTrust"]


@dataclass(frozen=True)
class TlsTrust:
    """How to verify a server's certificate. Without any of these, the system's authorities decide.

    Attributes:
        fingerprint: SHA-256 of its certificate.
        authorities: PEM certificates of authorities; one must have signed the server's, for its
            host.
        known_servers: file of known servers, one a line.
        known_as: the server's name in that file and in messages; empty: host and port.
        accepts_any: every certificate is accepted: encrypted, but not authenticated.
    """

    fingerprint: bytes | None = None
    authorities: str | None = None
    known_servers: Path | None = None
    known_as: str = ""
    accepts_any: bool = False

    @classmethod
    def of(
        cls,
        server_fingerprint: str | None,
        ca_file: str | os.PathLike[str] | None,
        known_servers: str | os.PathLike[str] | None,
    ) -> TlsTrust:
        """The trust settings from a client's keywords.

        Raises:
            ValueError: more than one of them, or one that is malformed.
        """
        refuse_several_trusts(server_fingerprint, ca_file, known_servers)
        if server_fingerprint is not None:
            return cls(fingerprint=parse_fingerprint(server_fingerprint))
        if ca_file is not None:
            return cls(authorities=_read_authorities(Path(ca_file)))
        if known_servers is None:
            return cls()
        warn_of_other_writers(known_servers)
        return cls(known_servers=Path(known_servers))

    @property
    def is_default(self) -> bool:
        """Whether the system's authorities decide."""
        return self == TlsTrust()

    def context(self, target: Target) -> ssl.SSLContext:
        """The settings of TLS, with which a handshake fails unless the server is the trusted one.

        The certificate is checked inside the handshake, before anything is sent: the api key goes
        to no other server.
        """
        context = _CheckedContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.authorities is not None:
            context.load_verify_locations(cadata=self.authorities)
        elif self.is_default:
            context.load_default_certs()
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.check = lambda certificate: self._check(target, certificate)
        return context

    def _check(self, target: Target, certificate: bytes) -> None:
        got = hashlib.sha256(certificate).digest()
        server = self.known_as or target.name
        if self.fingerprint is not None:
            check_pin(server, got, self.fingerprint)
        elif self.known_servers is not None:
            _check_known(self.known_servers, server, got)
        else:
            warn_unpinned(server, got.hex())


class _CheckedContext(ssl.SSLContext):
    check: Callable[[bytes], None] | None = None

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        wrapped = super().wrap_socket(*args, **options)
        if self.check is not None:
            try:
                self.check(wrapped.getpeercert(binary_form=True) or b"")
            except BaseException:
                wrapped.close()
                raise
        return wrapped


def _check_known(path: Path, server: str, got: bytes) -> None:
    # not everywhere: it needs the file locks of Unix
    from flash_transport.known_servers import LOCK_INTERVAL_S, FileProblem, KnownServers

    known = KnownServers(path)
    until = time.monotonic() + LOCK_S
    try:
        if known.is_known(server, got):
            return
        while not known.try_add(server, got):
            if time.monotonic() >= until:
                raise known.locked()
            time.sleep(LOCK_INTERVAL_S)
    except FileProblem as error:
        raise UntrustedServer(f"certificate of {server} cannot be checked: {error}") from None


def _read_authorities(path: Path) -> str:
    try:
        content = read_regular_file(path, MAX_CA_BYTES).decode("ascii")
        ssl.create_default_context(cadata=content)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"ca_file {path} holds no certificates of authorities in PEM form: {shown(str(error))}"
        ) from None
    return content


MAX_CA_BYTES = 16 << 20
LOCK_S = 2.0
"""How long another program may hold the lock of the known servers."""
