"""The bytes of `docs/protocol.md`, without a network."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Any

from flash_transport import packb, unpackb
from flash_transport.errors import (
    AuthenticationFailed,
    CodecError,
    FlashTransportError,
    ServerError,
    Superseded,
)

__all__ = ["ALPN", "Kind", "Signal", "hello_of", "parse_fingerprint", "read_answer", "request_of"]

ALPN = "openpi-flash/1"
MAX_FIELD = 1024
"""Bytes of each text of a hello."""


class Kind(enum.IntEnum):
    """The first byte of a request."""

    HELLO = 0x01
    INFER = 0x02
    RESET = 0x03


class Signal(enum.IntEnum):
    """Application error codes of QUIC."""

    DONE = 0x00
    CANCELLED = 0x01
    SHUTTING_DOWN = 0x04
    TOO_SLOW = 0x05
    UNFINISHED = 0x06


def request_of(kind: Kind, fields: Mapping[str, Any]) -> bytes:
    """A whole request.

    Raises:
        CodecError: a field cannot travel.
    """
    return bytes([kind]) + packb(dict(fields))


def hello_of(**fields: str | None) -> bytes:
    """A whole hello; fields that are None are left out.

    Raises:
        ValueError: a field is too long.
    """
    given = {name: text for name, text in fields.items() if text is not None}
    for name, text in given.items():
        length = len(text.encode())
        if length > MAX_FIELD:
            raise ValueError(
                f'hello has a "{name}" of {length} bytes, at most {MAX_FIELD} are allowed'
            )
    return request_of(Kind.HELLO, given)


def read_answer(answer: bytes, server: str) -> dict[str, Any]:
    """The map of a good answer; its arrays are read-only views on `answer`.

    Raises:
        ServerError, Superseded, AuthenticationFailed: what the server says instead.
        CodecError: this is no answer.
    """
    if not answer:
        raise _bad_answer(server, "it is empty")
    if answer[0] not in (_OK, _ERROR):
        raise _bad_answer(server, f"it starts with byte {answer[0]:#04x}")
    try:
        value = unpackb(memoryview(answer)[1:])
    except CodecError as error:
        if answer[0] == _OK:
            raise
        raise _bad_answer(server, str(error)) from None
    if not isinstance(value, dict):
        raise CodecError(f"the server's answer is no map but a {type(value).__name__}")
    if answer[0] == _ERROR:
        raise _failure(value, server)
    return value


def parse_fingerprint(text: str | None) -> bytes | None:
    """The SHA-256 of a certificate, from either case, with colons and `sha256:` or without.

    Raises:
        ValueError: not the 64 hex digits.
    """
    if text is None:
        return None
    digits = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError(f'fingerprint must be the 64 hex digits of a SHA-256, got "{text}"')
    return bytes.fromhex(digits)


def _failure(fields: dict[Any, Any], server: str) -> FlashTransportError:
    code, message = fields.get("code"), fields.get("message")
    code = code if isinstance(code, str) else "internal"
    message = message if isinstance(message, str) else ""
    if code == "superseded":
        return Superseded(message)
    if code == "unauthenticated":
        return AuthenticationFailed(f"{server} refused the api key: {message}")
    return ServerError(code, message)


def _bad_answer(server: str, reason: str) -> CodecError:
    return CodecError(f"answer of {server} is not valid: {reason}")


_OK, _ERROR = 0x00, 0x01
