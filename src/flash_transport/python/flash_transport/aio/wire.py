"""The messages of `docs/protocol.md` as bytes. Pure."""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flash_transport import packb, unpackb
from flash_transport.errors import (
    AuthenticationFailed,
    CodecError,
    FlashTransportError,
    ServerError,
    Superseded,
)
from flash_transport.first_actions import FIRST_ACTIONS_KEY
from flash_transport.outside_text import shown

__all__ = [
    "ALPN",
    "DEADLINE_KEY",
    "Kind",
    "Message",
    "Signal",
    "failure_of",
    "hello_of",
    "read_answer",
    "read_first",
    "split_first",
    "supports",
]

ALPN = "openpi-flash/1"
DEADLINE_KEY = "deadline_ms"
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


@dataclass(frozen=True)
class Message:
    """A request; its deadline is written when it is sent.

    Attributes:
        awaits_deadline: whether it ends with a float 64, the milliseconds that are left.
        first_steps: of the first actions that it asks for; None if it asks for none.
    """

    _whole: bytes
    awaits_deadline: bool = False
    first_steps: int | None = None

    @classmethod
    def of(
        cls,
        kind: Kind,
        fields: Mapping[str, Any],
        *,
        with_deadline: bool = False,
        first_steps: int | None = None,
    ) -> Message:
        """Packs an observation; a `deadline_ms` in it is kept.

        Raises:
            CodecError: a field cannot be packed.
        """
        awaits = with_deadline and DEADLINE_KEY not in fields
        entries = dict(fields)
        if first_steps is not None:
            entries[FIRST_ACTIONS_KEY] = first_steps
        if awaits:
            # last, where `bytes` writes it
            entries[DEADLINE_KEY] = 0.0
        return cls(bytes([kind]) + packb(entries), awaits, first_steps)

    def bytes(self, left: float | None = None) -> bytes:
        """The bytes to send if `left` seconds are left."""
        if not self.awaits_deadline:
            return self._whole
        # the server refuses zero as a mistake
        return self._whole[:-8] + struct.pack(">d", max(0.001, 1000 * (left or 0.0)))


def hello_of(**fields: str | None) -> bytes:
    """The bytes of a hello; fields that are None are left out.

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
    return Message.of(Kind.HELLO, given).bytes()


def read_answer(answer: bytes, server: str) -> dict[str, Any]:
    """The map of a good answer; its arrays are read-only views on `answer`.

    Raises:
        ServerError, Superseded, AuthenticationFailed: the server answered with an error.
        CodecError: the answer is not valid.
    """
    failure = failure_of(answer, server)
    if failure is not None:
        raise failure
    value = unpackb(memoryview(answer)[1:])
    if not isinstance(value, dict):
        raise _no_map(value)
    return value


def failure_of(answer: bytes, server: str) -> FlashTransportError | None:
    """The error in an answer, or of a malformed one; None for a good one."""
    if not answer:
        return _bad_answer(server, "it is empty")
    if answer[0] == _OK:
        return None
    if answer[0] != _ERROR:
        return _bad_answer(server, f"it starts with byte {answer[0]:#04x}")
    try:
        value = unpackb(memoryview(answer)[1:])
    except CodecError as error:
        return _bad_answer(server, str(error))
    return _failure(value, server) if isinstance(value, dict) else _no_map(value)


def supports(metadata: dict[str, Any], key: str) -> bool:
    """Whether the server reads an optional key of a request, by its metadata."""
    listed = metadata.get("supports")
    return isinstance(listed, list) and key in listed


def split_first(answer: bytes | bytearray) -> tuple[bytes, bytes] | None:
    """The map of first actions and what follows it; None if they are not complete, or not there."""
    if len(answer) < _HEAD or answer[0] != _FIRST:
        return None
    end = _HEAD + int.from_bytes(answer[1:_HEAD], "little")
    return (bytes(answer[_HEAD:end]), bytes(answer[end:])) if len(answer) >= end else None


def read_first(first: bytes, steps: int, server: str) -> dict[str, Any]:
    """The map of first actions; its arrays are read-only views on `first`.

    Raises:
        CodecError: it is no map with `steps` steps of `actions`.
    """
    value = unpackb(first)
    actions = value.get("actions") if isinstance(value, dict) else None
    if not isinstance(actions, np.ndarray) or actions.ndim != 2 or len(actions) != steps:
        shape = list(actions.shape) if isinstance(actions, np.ndarray) else "none"
        raise _bad_answer(
            server,
            f"the first actions are not valid: actions {shape}, expected [{steps}, action_dim]",
        )
    return value


def _failure(fields: dict[Any, Any], server: str) -> FlashTransportError:
    code, message = fields.get("code"), fields.get("message")
    code = code if isinstance(code, str) else "internal"
    message = message if isinstance(message, str) else ""
    if code == "superseded":
        return Superseded(shown(message))
    if code == "unauthenticated":
        return AuthenticationFailed(f"{server} refused the api key: {shown(message)}")
    return ServerError(code, message)


def _no_map(value: Any) -> CodecError:
    return CodecError(f"the server's answer is no map but a {type(value).__name__}")


def _bad_answer(server: str, reason: str) -> CodecError:
    return CodecError(f"answer of {server} is not valid: {reason}")


_OK, _ERROR, _FIRST = 0x00, 0x01, 0x02
_HEAD = 5
"""Bytes before the map of first actions: the kind and the length."""
