"""QUIC transport, msgpack-numpy codec and image work for robot policies."""

from flash_transport._native import (
    __version__,
    image_to_rgb,
    packb,
    resize_with_pad,
    unpackb,
)
from flash_transport.errors import (
    AuthenticationFailed,
    CodecError,
    Disconnected,
    FlashTransportError,
    ImageError,
    ServerError,
    Superseded,
    Timeout,
    UntrustedServer,
)

__all__ = [
    "AuthenticationFailed",
    "CodecError",
    "Disconnected",
    "FlashTransportError",
    "ImageError",
    "ServerError",
    "Superseded",
    "Timeout",
    "UntrustedServer",
    "__version__",
    "image_to_rgb",
    "packb",
    "resize_with_pad",
    "unpackb",
]
