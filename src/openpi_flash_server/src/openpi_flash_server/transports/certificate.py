"""The server's certificate: one that it makes and keeps, or the operator's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

KEPT_FILE = "flash_transport.pem"
"""As `flash_transport` names it: certificate and private key in one file."""


@dataclass(frozen=True, slots=True)
class KeptCertificate:
    """A certificate that the server makes once and keeps.

    Attributes:
        directory: where.
    """

    directory: Path

    @property
    def pem_files(self) -> tuple[Path, Path]:
        """The files with the certificate and its private key."""
        file = self.directory / KEPT_FILE
        return file, file


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
    def pem_files(self) -> tuple[Path, Path]:
        """The files with the certificate and its private key."""
        return self.certificate, self.key
