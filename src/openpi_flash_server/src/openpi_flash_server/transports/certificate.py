"""The server's certificate: one that it makes and keeps, or the operator's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flash_transport import FlashTransportError


class CertificateError(Exception):
    """The server's certificate cannot be read or made; the message names the file."""


@dataclass(frozen=True, slots=True)
class KeptCertificate:
    """A certificate that the server makes once and keeps.

    Attributes:
        directory: where.
    """

    directory: Path

    @property
    def arguments(self) -> dict[str, Any]:
        """What `QuicServer` and `WebsocketServer` take for it."""
        return {"certificate_dir": self.directory}


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """A certificate that the operator brings, in PEM files.

    Attributes:
        certificate: the certificate and its chain.
        key: its private key.
    """

    certificate: Path
    key: Path

    @property
    def arguments(self) -> dict[str, Any]:
        """What `QuicServer` and `WebsocketServer` take for it."""
        return {"tls_certificate": self.certificate, "tls_key": self.key}


@contextlib.contextmanager
def certificate_errors() -> Iterator[None]:
    """Turns the errors that a certificate causes in a server's constructor into CertificateError.

    An OSError that names no file is about the address, and passes.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise CertificateError(error.strerror) from error
    except FlashTransportError as error:
        raise CertificateError(str(error)) from error
