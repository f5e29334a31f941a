"""Fingerprints of certificates: SHA-256, as servers print them. Pure."""

from __future__ import annotations

import re

from flash_transport.errors import UntrustedServer
from flash_transport.outside_text import quoted

__all__ = ["check_pin", "parse_fingerprint", "refuse_several_trusts"]


def parse_fingerprint(text: str) -> bytes:
    """Parses a fingerprint: either case, with or without colons and `sha256:`.

    Raises:
        ValueError: it is none.
    """
    digits = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError(
            f"server_fingerprint must be the 64 hex digits of a SHA-256, got {quoted(text)}"
        )
    return bytes.fromhex(digits)


def check_pin(server: str, got: bytes, pinned: bytes) -> None:
    """Compares the fingerprint of a server's certificate with the pinned one.

    Raises:
        UntrustedServer: they differ.
    """
    if got != pinned:
        raise UntrustedServer(
            f"certificate of {server} has fingerprint {got.hex()}, not the pinned {pinned.hex()}; "
            "if the server's certificate was changed on purpose, pin the new one"
        )


def refuse_several_trusts(*ways: object) -> None:
    """Checks that at most one of server_fingerprint, ca_file and known_servers is given.

    Raises:
        ValueError: more than one is.
    """
    if sum(way is not None for way in ways) > 1:
        raise ValueError(
            "give one of server_fingerprint, ca_file and known_servers: each of them decides "
            "alone whom to trust"
        )
