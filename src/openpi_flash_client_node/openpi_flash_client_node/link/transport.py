"""All that the node uses of flash_transport, and the only module that imports it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, cast

import flash_transport
from flash_transport import (
    AuthenticationFailed,
    Disconnected,
    FlashTransportError,
    ImageError,
    ServerError,
    Superseded,
    Timeout,
    UntrustedServer,
    decode_image,
    image_to_rgb,
    jpeg_message,
    resize_with_pad,
)
from openpi_flash_client_node.link.events import FailureKind
from openpi_flash_client_node.senses.observation import Image, ImageWork, ObservationError, Size
from openpi_flash_client_node.settings.node_settings import LinkSettings


class CallStats(Protocol):
    """What is read of flash_transport's."""

    @property
    def serialize_ms(self) -> float:
        """Packing the request."""

    @property
    def bytes_up(self) -> int:
        """Of the request."""

    @property
    def bytes_down(self) -> int:
        """Of the answer."""


class Policy(Protocol):
    """A connection to a policy server."""

    def infer_with_stats(
        self, observation: dict[str, Any], timeout: float | None = None
    ) -> tuple[dict[str, Any], CallStats]:
        """Ask what to do, and what it cost; blocks until the answer or `timeout` seconds."""

    def get_server_metadata(self) -> dict[str, Any]:
        """What the server says about itself."""

    def reset(self) -> None:
        """Begin anew."""

    def close(self) -> None:
        """End the connection; another thread's `infer` fails at once."""


class RawImage(Protocol):
    """What is read of a sensor_msgs/Image."""

    data: Any
    height: int
    width: int
    step: int
    encoding: str
    is_bigendian: int


class EncodedImage(Protocol):
    """What is read of a sensor_msgs/CompressedImage."""

    data: Any
    format: str


ImageMessage = RawImage | EncodedImage


def open_policy(link: LinkSettings) -> Policy:
    """Connect to the server and learn what it is.

    Blocks for at most twice `link.connect_timeout`.

    Raises:
        FlashTransportError: there is no connection, or the server does not let this robot in.
    """
    policy = _OPENERS[link.transport](link)
    try:
        policy.get_server_metadata()
    except Exception:
        policy.close()
        raise
    return policy


def installation_notice() -> str:
    """What a person should know about how flash_transport is installed; empty if all is well."""
    if flash_transport.implementation == "native":
        return ""
    return (
        "flash_transport has no compiled half here: images and messages are handled in Python, "
        "which takes some 10 ms for each camera and request, and QUIC is not there; "
        "`pip install flash_transport` brings it"
    )


def failure_kind(error: Exception) -> FailureKind:
    """Whose fault it is that a request came to nothing."""
    if isinstance(error, Timeout):
        return FailureKind.TIMEOUT
    if isinstance(error, Superseded):
        return FailureKind.SUPERSEDED
    if isinstance(error, ServerError):
        is_late = error.code == "deadline_exceeded"
        return FailureKind.TIMEOUT if is_late else FailureKind.SERVER
    if isinstance(error, FlashTransportError) and not isinstance(error, _LINK_ERRORS):
        return FailureKind.PREPARE
    return FailureKind.LINK


def needs_human(error: Exception) -> bool:
    """Whether trying to connect again will not help: a key is wrong, a package is missing."""
    is_final = isinstance(error, (AuthenticationFailed, UntrustedServer, ImportError))
    return is_final or _is_malformed(error)


def _is_malformed(error: Exception) -> bool:
    """Whether a setting of the link is no such thing; the error names it."""
    return isinstance(error, ValueError) and not isinstance(error, FlashTransportError)


def failure_message(error: Exception) -> str:
    """The error for a person; an error that nobody expects says its type."""
    if isinstance(error, ServerError):
        return f"the server answered {error}"
    if isinstance(error, AuthenticationFailed):
        return f"{error}; set the parameter api_key to a key of the server"
    if isinstance(error, (FlashTransportError, ObservationError, ImportError)) or _is_malformed(
        error
    ):
        return str(error)
    return f"{type(error).__name__}: {error}"


def decode_message(message: ImageMessage, at_least: Size | None = None) -> Image:
    """A camera message as RGB [H, W, 3].

    Args:
        message: a sensor_msgs/Image or sensor_msgs/CompressedImage.
        at_least: rows and columns into which a CompressedImage will be fitted.

    Raises:
        ImageError: its encoding or size cannot be handled.
    """
    if hasattr(message, "format"):
        return _decode_encoded(cast(EncodedImage, message), at_least)
    return image_to_rgb(
        message.data,
        height=message.height,
        width=message.width,
        step=message.step,
        encoding=message.encoding,
        is_bigendian=bool(message.is_bigendian),
    )


def _decode_encoded(message: EncodedImage, at_least: Size | None) -> Image:
    # drivers differ in what they write there, so only what has another head than a file is told
    if "compressedDepth" in message.format:
        raise ImageError(f"image format {message.format!r} is a depth image, expected jpeg or png")
    if "bayer" in message.format:
        raise ImageError(
            f"image format {message.format!r} has no colours before it is interpolated, "
            f"expected jpeg or png of rgb, bgr or mono"
        )
    try:
        return decode_image(message.data, at_least=at_least)
    except ImageError as error:
        raise ImageError(f"image format {message.format!r}: {error}") from error


IMAGE_WORK: ImageWork[ImageMessage] = ImageWork(
    decode=decode_message, resize=resize_with_pad, encode=jpeg_message
)


def _open_quic(link: LinkSettings) -> Policy:
    from flash_transport import FlashTransportPolicy

    policy: Policy = FlashTransportPolicy(
        link.host,
        link.port,
        api_key=link.api_key or None,
        server_fingerprint=link.server_fingerprint or None,
        ca_file=_path(link.ca_file),
        known_servers=_path(link.known_servers),
        connect_timeout=link.connect_timeout,
        open_loop_horizon=0,  # the chunk player wants whole chunks, whatever the environment says
    )
    return policy


def _path(name: str) -> str | None:
    return str(Path(name).expanduser()) if name else None


def _open_websocket(link: LinkSettings) -> Policy:
    from flash_transport import WebsocketPolicy  # imported late: it needs `websockets`

    return WebsocketPolicy(
        link.host,
        link.port,
        api_key=link.api_key or None,
        connect_timeout=link.connect_timeout,
        open_loop_horizon=0,
    )


_OPENERS = {"quic": _open_quic, "websocket": _open_websocket}
_LINK_ERRORS = (Disconnected, AuthenticationFailed, UntrustedServer)
