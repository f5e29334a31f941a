"""All that the node uses of flash_transport, and the only module that imports it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

import flash_transport
from flash_transport import (
    AuthenticationFailed,
    Disconnected,
    FlashTransportError,
    ImageError,
    InferenceFuture,
    LinkEstimate,
    ServerError,
    Superseded,
    Timeout,
    UntrustedServer,
    decode_image,
    image_to_rgb,
    jpeg_message,
    resize_with_pad,
)
from flash_transport.address import parse_address
from flash_transport.api_key import checked_api_key
from flash_transport.image_choice import ImageChooser, ImageLimits
from flash_transport.stats import CallStats
from openpi_flash_robot.link.events import FailureKind
from openpi_flash_robot.senses.observation import CameraImageError, Image, ImageWork, Size
from openpi_flash_robot.settings.node_settings import (
    DEFAULT_PORTS,
    LinkSettings,
    ObservationSettings,
)
from openpi_flash_robot.settings.parameter_kinds import ParameterError

Answered = tuple[dict[str, Any], CallStats]
"""An answer and what the call cost."""

Estimate = LinkEstimate | None
"""What is known of the path to the server; None if it is not measured."""

Chooser = ImageChooser
"""Decides for each request whether its images are raw or JPEG."""


class PolicyConnection(Protocol):
    """What the node uses of flash_transport's clients."""

    def infer_with_stats(
        self, observation: dict[str, Any], timeout: float | None = None
    ) -> Answered:
        """The answer and what the call cost; blocks for at most `timeout` seconds."""

    def submit(
        self,
        observation: dict[str, Any],
        timeout: float | None = None,
        *,
        first_actions: int | None = None,
    ) -> InferenceFuture:
        """The answer to come, and its first actions ahead of it."""

    @property
    def link_estimate(self) -> Estimate:
        """What is known of the path to the server; None if it is not measured."""

    def get_server_metadata(self) -> dict[str, Any]:
        """The server's metadata."""

    def reset(self) -> None:
        """Have the policy forget its state."""

    def close(self) -> None:
        """End the connection; another thread's `infer` fails at once."""


class RawImage(Protocol):
    """What is read of a sensor_msgs/Image."""

    @property
    def data(self) -> Any:
        """The rows, as a buffer."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def step(self) -> int:
        """Bytes from row to row."""

    @property
    def encoding(self) -> str:
        """Of the pixels, as sensor_msgs names them."""

    @property
    def is_bigendian(self) -> int:
        """Byte order of samples of more than one byte."""


class EncodedImage(Protocol):
    """What is read of a sensor_msgs/CompressedImage."""

    @property
    def data(self) -> Any:
        """The file, as a buffer."""

    @property
    def format(self) -> str:
        """What the driver calls it."""


ImageMessage = RawImage | EncodedImage


def resolve_server(link: LinkSettings) -> LinkSettings:
    """The settings with host, port and `server` as `open_policy` and messages need them.

    The parameter `server` may be a name or an address, with or without a port; for QUIC also
    `unix:/path`, for WebSocket also a URI (`wss://host/path`). With `auto` these are QUIC and
    WebSocket from the start.

    Raises:
        ParameterError: it is none of these, or the parameter `port` contradicts it.
    """
    try:
        return _RESOLVERS[link.transport](link)
    except ValueError as error:
        raise ParameterError(f"parameter server: {error}") from None


def check_api_key(text: str) -> None:
    """Refuse what cannot be sent as an API key.

    Raises:
        ValueError: which kind of character is wrong; never shows the key.
    """
    checked_api_key(text)


def open_policy(link: LinkSettings) -> PolicyConnection:
    """Connect to the server and read its metadata.

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


def transport_in_use(policy: PolicyConnection) -> tuple[str, str]:
    """What carries the requests of a connection that chooses, and why; else empty.

    The name is empty, too, while neither transport works.
    """
    name = getattr(policy, "transport", "")
    return (name, getattr(policy, "transport_reason", "")) if name else ("", "")


def installation_notice() -> str:
    """A warning where flash_transport is installed without its compiled half; else empty."""
    if flash_transport.implementation == "native":
        return ""
    return (
        "flash_transport is installed without its compiled half: images and messages are handled "
        "in Python, about 10 ms per camera and request slower, and there is no QUIC, only "
        "WebSocket; `pip install ./src/flash_transport` in a clone of openpi-flash builds it"
    )


def link_notices(link: LinkSettings) -> list[str]:
    """What people should know before they trust the link to a server."""
    notices = [notice] if (notice := installation_notice()) else []
    is_local = link.host in ("127.0.0.1", "::1", "localhost") or link.is_unix
    if link.transport in ("auto", "quic") and link.is_unauthenticated and not is_local:
        notices.append(
            f"the server at {link.server} is not authenticated: an attacker on the network path "
            "could impersonate it and move the robot; set server_fingerprint to the fingerprint "
            "that the server prints at its start"
        )
    return notices


def failure_kind(error: Exception) -> FailureKind:
    """Why a request failed, as the bridge distinguishes it."""
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
    """Whether connecting again cannot help: a wrong key or certificate, a missing package."""
    is_final = isinstance(error, (AuthenticationFailed, UntrustedServer, ImportError))
    return is_final or _is_malformed(error)


def _is_malformed(error: Exception) -> bool:
    """Whether a setting of the link is malformed; the error names it."""
    return isinstance(error, ValueError) and not isinstance(error, FlashTransportError)


def failure_message(error: Exception) -> str:
    """The error for a person; an unexpected error with its type."""
    if isinstance(error, ServerError):
        return f"the server answered {error}"
    if isinstance(error, AuthenticationFailed):
        return (
            f"{error}; write a key of the server into the file of the parameter api_key_file, or "
            "into OPENPI_FLASH_API_KEY, and start the node again"
        )
    if isinstance(error, (FlashTransportError, CameraImageError, ImportError)) or _is_malformed(
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
    if message.encoding == "rgb8" and _is_packed(message):
        # it is RGB already: a view will do
        pixels = np.frombuffer(message.data, np.uint8)
        return pixels.reshape(message.height, message.width, 3)
    return image_to_rgb(
        message.data,
        height=message.height,
        width=message.width,
        step=message.step,
        encoding=message.encoding,
        is_bigendian=bool(message.is_bigendian),
    )


def _is_packed(message: RawImage) -> bool:
    """Whether an image of three bytes a pixel is whole, without gaps between its rows."""
    size = 3 * message.height * message.width
    return message.step == 3 * message.width and len(message.data) == size > 0


def _decode_encoded(message: EncodedImage, at_least: Size | None) -> Image:
    # drivers differ in what they write there, so only what has another head than a file is told
    if "compressedDepth" in message.format:
        raise ImageError(f"image format {message.format!r} is a depth image, expected jpeg or png")
    if "bayer" in message.format:
        raise ImageError(
            f"image format {message.format!r} is a Bayer pattern, expected jpeg or png of "
            f"rgb, bgr or mono"
        )
    try:
        return decode_image(message.data, at_least=at_least)
    except ImageError as error:
        raise ImageError(f"image format {message.format!r}: {error}") from error


IMAGE_WORK: ImageWork[ImageMessage] = ImageWork(
    decode=decode_message, resize=resize_with_pad, encode=jpeg_message
)


def image_chooser(observation: ObservationSettings) -> Chooser | None:
    """The chooser of these settings; None if they insist on raw images or on JPEG."""
    if observation.image_budget is None or observation.jpeg_quality is None:
        return None
    limits = ImageLimits(
        observation.image_budget, observation.jpeg_quality, observation.least_jpeg_quality
    )
    return ImageChooser(limits)


def _resolve_quic(link: LinkSettings) -> LinkSettings:
    if link.is_unix:
        return replace(link, server=link.host)
    host, port = parse_address(link.host, link.port).with_default(DEFAULT_PORTS["quic"])
    return replace(link, host=host, port=port, server=_host_and_port(host, port))


def _resolve_auto(link: LinkSettings) -> LinkSettings:
    """A unix socket, a relay and a URI leave nothing to choose."""
    if link.is_unix or link.relay:
        return _resolve_quic(replace(link, transport="quic"))
    if "://" in link.host:
        return _resolve_websocket(replace(link, transport="websocket"))
    return _resolve_quic(link)


def _resolve_websocket(link: LinkSettings) -> LinkSettings:
    try:
        from flash_transport.websocket.target import parse_target
    except ImportError:  # no `websockets`: `open_policy` raises with what to install
        return link
    target = parse_target(link.host, link.port)
    if "://" in link.host:
        return replace(link, server=str(target))
    return replace(
        link, host=target.host, port=target.port, server=_host_and_port(target.host, target.port)
    )


def _host_and_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _open_quic(link: LinkSettings) -> PolicyConnection:
    from flash_transport import FlashTransportPolicy

    policy: PolicyConnection = FlashTransportPolicy(
        link.host,
        link.port or DEFAULT_PORTS["quic"],
        api_key=link.api_key or None,
        server_fingerprint=link.server_fingerprint or None,
        ca_file=_path(link.ca_file),
        known_servers=_path(link.known_servers),
        connect_timeout=link.connect_timeout,
        session=link.session or None,
        relay=link.relay or None,
        relay_token_file=_path(link.relay_token_file),
        open_loop_horizon=0,  # whole chunks, also where OPENPI_OPEN_LOOP_HORIZON is set
    )
    return policy


def _open_auto(link: LinkSettings) -> PolicyConnection:
    from flash_transport import AutoTransportPolicy

    return AutoTransportPolicy(
        link.host,
        link.port or DEFAULT_PORTS["auto"],
        websocket_port=link.websocket_port,
        api_key=link.api_key or None,
        server_fingerprint=link.server_fingerprint or None,
        ca_file=_path(link.ca_file),
        known_servers=_path(link.known_servers),
        connect_timeout=link.connect_timeout,
        session=link.session or None,
        open_loop_horizon=0,
        insecure_fallback=link.insecure_fallback,
    )


def _path(name: str) -> str | None:
    return str(Path(name).expanduser()) if name else None


def _open_websocket(link: LinkSettings) -> PolicyConnection:
    from flash_transport import WebsocketPolicy  # imported late: it needs `websockets`

    return WebsocketPolicy(
        link.host,
        link.port,
        api_key=link.api_key or None,
        server_fingerprint=link.server_fingerprint or None,
        ca_file=_path(link.ca_file),
        known_servers=_path(link.known_servers),
        connect_timeout=link.connect_timeout,
        open_loop_horizon=0,
    )


_OPENERS = {"auto": _open_auto, "quic": _open_quic, "websocket": _open_websocket}
_RESOLVERS = {"auto": _resolve_auto, "quic": _resolve_quic, "websocket": _resolve_websocket}
_LINK_ERRORS = (Disconnected, AuthenticationFailed, UntrustedServer)
