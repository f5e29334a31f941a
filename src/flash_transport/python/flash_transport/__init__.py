"""QUIC transport, msgpack-numpy codec and image work for robot policies."""

from typing import TYPE_CHECKING, Any

from flash_transport._implementation import implementation
from flash_transport.errors import (
    AuthenticationFailed,
    CodecError,
    Disconnected,
    FlashTransportError,
    ImageError,
    NativeMissing,
    ServerError,
    Superseded,
    Timeout,
    UntrustedServer,
)
from flash_transport.futures import InferenceFuture
from flash_transport.link_estimate import LinkEstimate
from flash_transport.policy import PolicyClient
from flash_transport.stats import CallStats

if TYPE_CHECKING:
    from flash_transport.auto.policy import AutoTransportPolicy
    from flash_transport.websocket import WebsocketPolicy

# both halves have the same names; the types are those of the compiled one
if TYPE_CHECKING or implementation == "native":
    from flash_transport._native import (
        LocalServer,
        QuicServer,
        TransportRequest,
        TransportServer,
        WebsocketServer,
        __version__,
        decode_image,
        encode_jpeg,
        image_size,
        image_to_rgb,
        jpeg_message,
        packb,
        resize_with_pad,
        unpackb,
    )
    from flash_transport.quic import FlashTransportPolicy
else:
    from flash_transport.pure import (
        FlashTransportPolicy,
        LocalServer,
        QuicServer,
        TransportRequest,
        TransportServer,
        WebsocketServer,
        __version__,
        decode_image,
        encode_jpeg,
        image_size,
        image_to_rgb,
        jpeg_message,
        packb,
        resize_with_pad,
        unpackb,
    )

__all__ = [
    "AuthenticationFailed",
    "AutoTransportPolicy",
    "CallStats",
    "CodecError",
    "Disconnected",
    "FlashTransportError",
    "FlashTransportPolicy",
    "ImageError",
    "InferenceFuture",
    "LinkEstimate",
    "LocalServer",
    "NativeMissing",
    "Policy",
    "PolicyClient",
    "QuicServer",
    "ServerError",
    "Superseded",
    "Timeout",
    "TransportRequest",
    "TransportServer",
    "UntrustedServer",
    "WebsocketPolicy",
    "WebsocketServer",
    "__version__",
    "decode_image",
    "encode_jpeg",
    "image_size",
    "image_to_rgb",
    "implementation",
    "jpeg_message",
    "packb",
    "resize_with_pad",
    "unpackb",
]

Policy = PolicyClient
"""`PolicyClient` under its short name."""


def __getattr__(name: str) -> Any:
    # QUIC and the codec work without `websockets`: import it only when it is used
    if name == "WebsocketPolicy":
        from flash_transport.websocket import WebsocketPolicy

        return WebsocketPolicy
    if name == "AutoTransportPolicy":
        from flash_transport.auto.policy import AutoTransportPolicy

        return AutoTransportPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
