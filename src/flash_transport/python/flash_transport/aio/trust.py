"""Which servers a client trusts: a pinned certificate, an authority, or known servers."""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from flash_transport.errors import UntrustedServer
from flash_transport.fingerprint import (
    check_pin,
    parse_fingerprint,
    refuse_several_trusts,
)
from flash_transport.known_servers import LOCK_INTERVAL_S, FileProblem, KnownServers
from flash_transport.known_servers_access import warn_of_other_writers
from flash_transport.outside_text import shown
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
        refuse_several_trusts(server_fingerprint, ca_file, known_servers)
        if server_fingerprint is not None:
            return cls(fingerprint=parse_fingerprint(server_fingerprint))
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
        if self.fingerprint is not None:
            check_pin(server, got, self.fingerprint)
        if self.known_servers is not None:
            try:
                await _check_known(KnownServers(self.known_servers), server, got, lock_s)
            except FileProblem as error:
                raise UntrustedServer(
                    f"certificate of {server} cannot be checked: {error}"
                ) from None
        if self == Trust():
            warn_unpinned(server, got.hex())


def why_not_authorised(server: str, ca_file: Path, alert: int, reason: str) -> UntrustedServer:
    """The meaning of a TLS alert about a certificate, in words."""
    if alert == _EXPIRED:
        reason = "it has expired"
    elif "match" in reason:
        reason = "it is for another host; connect by a name or address that the certificate lists"
    return UntrustedServer(
        f"certificate of {server} is not accepted by the authorities of {ca_file}: {shown(reason)}"
    )


def _read_authorities(path: Path) -> bytes:
    try:
        content = read_regular_file(path, MAX_CA_BYTES)
        x509.load_pem_x509_certificates(content)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"ca_file {path} holds no certificates of authorities in PEM form: {shown(str(error))}"
        ) from None
    return content


async def _check_known(known: KnownServers, server: str, got: bytes, lock_s: float) -> None:
    if known.is_known(server, got):
        return
    until = asyncio.get_running_loop().time() + lock_s
    while not known.try_add(server, got):
        if asyncio.get_running_loop().time() >= until:
            raise known.locked()
        await asyncio.sleep(LOCK_INTERVAL_S)


MAX_CA_BYTES = 16 << 20
_EXPIRED = 45
"""TLS's alert certificate_expired."""
