"""Names that only the compiled half has; here their use raises `NativeMissing`."""

from __future__ import annotations

from typing import Any, NoReturn

from flash_transport._implementation import PURE_REASON
from flash_transport.errors import NativeMissing

__all__ = [
    "LocalServer",
    "MissingQuicPolicy",
    "QuicServer",
    "TransportRequest",
    "TransportServer",
    "WebsocketServer",
    "decode_image",
    "encode_jpeg",
    "image_size",
    "jpeg_message",
]


class _NativeOnly:
    """Its constructor always fails."""

    _public_name = ""

    def __new__(cls, *_arguments: Any, **_options: Any) -> NoReturn:
        """Refuses.

        Raises:
            NativeMissing: always.
        """
        raise NativeMissing(cls._public_name or cls.__name__, PURE_REASON)


class MissingQuicPolicy(_NativeOnly):
    """A policy behind a QUIC server of openpi-flash: needs the compiled half of this package."""

    _public_name = "FlashTransportPolicy"


class TransportServer(_NativeOnly):
    """The base class of the servers: needs the compiled half of this package."""


class QuicServer(TransportServer):
    """A QUIC server: needs the compiled half of this package."""


class LocalServer(TransportServer):
    """A server on a unix socket: needs the compiled half of this package."""


class WebsocketServer(TransportServer):
    """A server of openpi's WebSocket protocol: needs the compiled half of this package."""


class TransportRequest(_NativeOnly):
    """A request to a server: needs the compiled half of this package."""


def decode_image(*_arguments: Any, **_options: Any) -> NoReturn:
    """Decode a JPEG or PNG: needs the compiled half of this package."""
    raise NativeMissing("decode_image", PURE_REASON)


def encode_jpeg(*_arguments: Any, **_options: Any) -> NoReturn:
    """Encode an RGB image as JPEG: needs the compiled half of this package."""
    raise NativeMissing("encode_jpeg", PURE_REASON)


def image_size(*_arguments: Any, **_options: Any) -> NoReturn:
    """The size of a JPEG or PNG: needs the compiled half of this package."""
    raise NativeMissing("image_size", PURE_REASON)


def jpeg_message(*_arguments: Any, **_options: Any) -> NoReturn:
    """An encoded image for an observation: needs the compiled half of this package."""
    raise NativeMissing("jpeg_message", PURE_REASON)
