"""The compiled half of flash_transport: what `flash_transport` re-exports."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, Self, disjoint_base

__all__ = [
    "Completions",
    "LocalServer",
    "PackedRequest",
    "QuicServer",
    "TransportClient",
    "TransportRequest",
    "TransportServer",
    "WebsocketServer",
    "__version__",
    "decode_image",
    "encode_jpeg",
    "image_size",
    "image_to_rgb",
    "jpeg_message",
    "packb",
    "resize_with_pad",
    "unpackb",
]

_Sample = TypeVar("_Sample", np.uint8, np.float32)

__version__: str

def packb(value: Any) -> bytes:
    """Pack a value as openpi's client and server do: msgpack with numpy arrays.

    Takes None, bool, int, float, str, bytes-like values, numpy arrays and scalars, and lists,
    tuples and dicts of them (with str or bytes keys). Tuples arrive as lists.

    Raises:
        CodecError: the value, or one inside it, cannot travel; names the way to it.
    """

def unpackb(data: Buffer) -> Any:
    """Unpack one message. Arrays are read-only views that keep `data` alive.

    Raises:
        CodecError: `data` is no such message, or larger or deeper than a message may be.
    """

def resize_with_pad(image: NDArray[_Sample], height: int, width: int) -> NDArray[_Sample]:
    """Fit images into the given size, black around them, as openpi does.

    uint8 as its client does with PIL, padded with 0; float32 as its models do with JAX, padded
    with -1 and clipped to [-1, 1].

    Do not write to `image` from another thread in the meantime: the GIL is released.

    Args:
        image: uint8 or float32 `[..., height, width, 3]` or `[..., 3, height, width]`; a last size
            of 3 decides.
        height: rows of the result.
        width: columns of the result.

    Returns:
        Images of the same layout, or `image` itself where it has the size already.

    Raises:
        ImageError: another shape or dtype.
    """

def image_to_rgb(
    data: Buffer,
    *,
    height: int,
    width: int,
    step: int,
    encoding: str,
    is_bigendian: bool = False,
) -> NDArray[np.uint8]:
    """Turn what `sensor_msgs/Image` carries into a new uint8 array `[height, width, 3]`.

    Args:
        data: the bytes of the rows; not copied before they are converted.
        height: rows.
        width: columns.
        step: bytes from the start of a row to the start of the next.
        encoding: rgb, bgr, rgba, bgra or mono with 8 or 16 bits, bayer_rggb, bggr, gbrg or grbg
            with 8 or 16, `uyvy` (`yuv422`), `yuyv` (`yuv422_yuy2`), `nv12`, `nv21`, `nv24`,
            `8UC1`, `8UC3`, `8UC4`, `16UC1`, `16UC3` (blue first). Brightness and colour are those
            of BT.601 from 16 to 235, as in OpenCV; 65535 of 16 bits is 255.
        is_bigendian: byte order of samples of more than one byte.

    Raises:
        ImageError: an encoding that is not known, or less data than the rest asks for.
    """

def image_size(data: Buffer) -> tuple[int, int]:
    """The rows and columns of a JPEG or PNG, read from its header; the rest may be damaged.

    Args:
        data: the file, or its beginning.

    Raises:
        ImageError: the header is no JPEG's and no PNG's.
    """

def decode_image(
    data: Buffer, *, at_least: tuple[int, int] | None = None, max_bytes: int = 134217728
) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG, whichever it is, into a new uint8 array `[height, width, 3]`.

    Grey becomes three equal colours, alpha is dropped, and of 16 bits 65535 becomes 255.

    Args:
        data: the whole file.
        at_least: rows and columns into which the image will be fitted. A larger JPEG may then come
            out at a half, a quarter or an eighth of its size, which takes less time than all of
            it, as long as `resize_with_pad` to this size does not have to enlarge it.
        max_bytes: an image that is larger when decoded is refused before memory is taken for it.

    Raises:
        ImageError: neither of the two, damaged, cut off or too large.
    """

def encode_jpeg(image: NDArray[np.uint8], quality: int = 92) -> bytes:
    """Encode an RGB image as JPEG, with tables made for policies rather than for eyes.

    Each pixel keeps its own colour (4:4:4), and all frequencies are kept in equal steps.

    Args:
        image: uint8 `[height, width, 3]` or `[3, height, width]`; a last size of 3 decides.
        quality: 1 to 100, on a scale much like libjpeg's: from 50 on, the steps are 100 less it.

    Raises:
        ImageError: another shape, dtype or quality.
    """

def jpeg_message(image: NDArray[np.uint8], quality: int = 92) -> dict[str, Any]:
    """An image that may stand in an observation in place of an array; a server decodes it.

    Only a server whose metadata has `jpeg` in `supports` reads it. It sees an image of the same
    shape.

    Args:
        image: as for `encode_jpeg`.
        quality: as for `encode_jpeg`.

    Returns:
        `{"__image__": "jpeg", "data": bytes}`, and `"layout": "chw"` for `[3, height, width]`.

    Raises:
        ImageError: another shape, dtype or quality.
    """

@final
class TransportClient:
    """A client of one server, over QUIC or a unix socket: what `FlashTransportPolicy` is made of.

    Args and Raises: as for `FlashTransportPolicy`.
    """

    def __new__(
        cls,
        host: str,
        port: int | None,
        *,
        api_key: str | None,
        server_fingerprint: str | None,
        ca_file: str | PathLike[str] | None,
        known_servers: str | PathLike[str] | None,
        session: str | None,
        connect_timeout: float,
        dedicated_link: bool,
        attempt_timeout: float | None = None,
        requests_connect: bool = True,
        relay: str | None = None,
        relay_token_file: str | PathLike[str] | None = None,
    ) -> Self:
        """Connect, unless `requests_connect` is false.

        Then it connects after `begin_connecting`, and requests without a connection end in
        `NotBegun`. An attempt takes `attempt_timeout` seconds at most, or `connect_timeout`.
        """

    def begin_connecting(self) -> None:
        """Connect, and try again after every failure, for at most `connect_timeout`."""

    def stop_connecting(self) -> None:
        """Make no further attempt to connect; one that is under way goes on."""

    def standing(
        self, known: int, within: float
    ) -> tuple[
        int,
        Literal["up", "down", "not_ready", "hopeless"],
        str,
        Exception | None,
        tuple[float, float] | None,
    ]:
        """Wait until the standing is not the one numbered `known`, for at most `within` seconds.

        Returns:
            Its number; its name; the reason as text, and as an error where it has one; seconds
            since the server was heard and of a round trip, where it is up.
        """

    def nudge(self) -> None:
        """End a wait of `standing`, the next one if none is under way."""

    @property
    def server(self) -> str:
        """The server as the user named it: `host:port`."""

    @property
    def is_forked(self) -> bool:
        """Whether a fork made this copy, which has no connection."""

    @property
    def link_settings(self) -> dict[str, int]:
        """How the link is set: see `FlashTransportPolicy`."""

    @property
    def reads_jpeg(self) -> bool | None:
        """Whether the server reads images as JPEG; None until its first hello is answered."""

    @property
    def link_estimate(self) -> tuple[float, float | None, float] | None:
        """The arguments of `LinkEstimate`, of the current connection; None without one."""

    @property
    def completions(self) -> Completions:
        """Where the outcomes of submitted requests come out."""

    def infer(self, observation: dict[str, Any], timeout: float | None) -> dict[str, Any]:
        """Ask and wait for the answer."""

    def infer_with_stats(
        self, observation: dict[str, Any], timeout: float | None
    ) -> tuple[dict[str, Any], tuple[float, float, int, int, int, float]]:
        """As `infer`, with the arguments of `CallStats`."""

    def pack(
        self, observation: dict[str, Any], timeout: float | None, first_actions: int | None
    ) -> PackedRequest:
        """The request of an observation, to be submitted once.

        It asks for `first_actions` steps ahead of the rest, where the server may send them.
        """

    def submit(self, request: PackedRequest, timeout: float | None, ticket: int) -> None:
        """Ask and go on; the outcome comes out of `completions` under `ticket`."""

    def get_server_metadata(self) -> dict[str, Any]:
        """What the server said about itself when the connection was made; waits for it."""

    def reset(self) -> None:
        """Start a new episode."""

    def close(self) -> None:
        """Close the connection. Requests that are under way end in Disconnected."""

@final
class PackedRequest:
    """A request whose outcome comes out of `Completions`."""

    @property
    def serialize_ms(self) -> float:
        """Milliseconds that packing took."""

    def cancel(self) -> None:
        """Cancel the request; the server is told to drop it."""

    def observation(self) -> dict[str, Any]:
        """The observation as it was packed, to be sent another way."""

@final
class Completions:
    """The outcomes of submitted requests, in the order in which they arrive."""

    def next(
        self,
    ) -> (
        tuple[
            int,
            dict[str, Any] | None,
            BaseException | None,
            tuple[float, int, int, int, float] | None,
        ]
        | None
    ):
        """Wait for the next outcome; None when the client is closed and all were returned.

        Returns:
            Its ticket, the answer or None, the error or None, and the last five arguments of
            `CallStats`. Without these it is the first actions of a request, whose outcome follows,
            or why they cannot be used.
        """

@disjoint_base
class TransportServer:
    """The common base of `QuicServer`, `LocalServer` and `WebsocketServer`; not made by itself."""

    @property
    def counters(self) -> dict[str, int]:
        """Counters since the start, for metrics; docs/server.md lists them."""

    def clients(self) -> list[tuple[str, str, str]]:
        """The clients that are connected.

        Returns:
            For each its name, as in `next_client_events`; its session; name and version of its
            software, as it gave them, with control characters escaped.
        """

    def share_refusals(self, other: TransportServer) -> None:
        """Counts wrong API keys together with `other`, a server of this process.

        Trying keys on both is then no faster than on one. `other` keeps its counts.
        """

    def client_key(self, name: str) -> int | None:
        """The place of a connected client's key in `api_keys`; 0 if none is wanted.

        Returns:
            None if no client of this name is connected.
        """

    def set_metadata(self, metadata: dict[str, Any]) -> None:
        """Become ready: from now on each hello is answered with `metadata`."""

    def next_request(self, timeout: float | None = None) -> TransportRequest | None:
        """Wait for the next request. Any number of threads may.

        Args:
            timeout: seconds; None waits until there is one.

        Returns:
            None when `timeout` has passed or the server is closed.

        Raises:
            FlashTransportError: the server cannot take requests any more.
        """

    def next_client_events(
        self, timeout: float | None = None
    ) -> (
        list[tuple[Literal["connected", "disconnected", "refused", "relay", "lost"], str, str, int]]
        | None
    ):
        """Wait for events of clients, for a log: who connected, who left, who was refused.

        Args:
            timeout: seconds; None waits until there is something.

        Returns:
            For each event its kind; the client, `ip:port#connection` or `pid=…,uid=…#connection`,
            of `refused` only `ip`, IPv6's `network::/64` or `uid=…`; the client's session, of
            `refused` the reason; and how often it happened since the last call. `relay` has the
            relay's address and how the server stands with it. `lost` counts
            events that were dropped because they were not fetched in time. An empty list when
            `timeout` has passed, None when the server is closed and all events were returned. No
            text holds a key or a control character.
        """

    def stop_accepting(self) -> None:
        """Answer hellos and new requests with `not_ready` from now on.

        Accepted requests still come out of `next_request`, and their answers are sent.
        """

    def drain(self, timeout: float | None) -> bool:
        """Accept nothing more, wait until accepted requests are answered, and close.

        Other threads must go on to take and answer requests. After `timeout` seconds the clients
        of unanswered requests get `not_ready`, as from `close`.

        Returns:
            Whether every accepted request is answered and its answer has arrived.
        """

    def close(self) -> None:
        """Stop. Sent answers still arrive; requests that were not taken yet get `not_ready`.

        A request that was taken and is not answered may have been carried out; its client gets
        Disconnected.
        """

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

@final
class QuicServer(TransportServer):
    """The server's end of QUIC, for any number of clients.

    It listens from its construction on and answers each hello with `metadata`; the other requests
    come out of `next_request`. Without `metadata` it answers everything with `not_ready` until
    `set_metadata`, so that clients wait for a model that still loads. Network and encryption run
    on a thread of their own, without the GIL.

    Args:
        host: address to listen on; `::` listens on IPv4, too.
        port: UDP port; 0 lets the system choose.
        metadata: what each client is told when it connects; None answers `not_ready`.
        certificate_dir: where the certificate and its key are kept, made on the first start. None
            makes a new certificate each time, which no client can pin.
        tls_certificate: PEM file of a certificate from elsewhere, with its chain, instead of one in
            `certificate_dir`.
        tls_key: PEM file of its private key.
        api_keys: a client must give one of them; empty accepts every client. Each is one line of
            visible ASCII.
        max_message_bytes: the largest request. One client may have requests of twice, all of them
            together of eight times that waiting for their answers.
        dedicated_link: nothing else uses the link to the clients: answers are sent at full rate
            whatever is lost, and other traffic on the link gets nothing.
        server_id: what a load balancer routes by, `0x` and 16 lowercase hexadecimal digits: each
            connection id holds it in the plaintext format of QUIC-LB.
        relay: name or address of a relay, with or without its port (5557), at which to register as
            well, for clients that cannot reach the port.
        relay_name: the server's name there.
        relay_token_file: file with the token of that name.

    Raises:
        OSError: the address is in use or cannot be listened on, or a file (its `filename`) cannot
            be read or made.
        FlashTransportError: what the files hold is no certificate with its key.
        ValueError: a key that is none, which the message does not show; an empty `host`; a
            malformed `server_id`; a relay's address, name or file that is no good, or one of them
            without the others.
    """

    def __new__(
        cls,
        host: str = "0.0.0.0",
        port: int = 5555,
        *,
        metadata: dict[str, Any] | None = None,
        certificate_dir: str | PathLike[str] | None = None,
        tls_certificate: str | PathLike[str] | None = None,
        tls_key: str | PathLike[str] | None = None,
        api_keys: Sequence[str] = ...,
        max_message_bytes: int = 67108864,
        dedicated_link: bool = False,
        server_id: str | None = None,
        relay: str | None = None,
        relay_name: str | None = None,
        relay_token_file: str | PathLike[str] | None = None,
    ) -> Self: ...
    @property
    def port(self) -> int:
        """The UDP port that is listened on."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, 64 hex digits; clients pin it."""

    @property
    def connections(self) -> int:
        """How many connections are open now, those in their handshake included."""

    @property
    def links(self) -> dict[str, dict[str, float]]:
        """How each connection's link does, by the client's name, since it connected.

        `rtt_ms`, smoothed; `packets_sent` by the server, and those among them that were declared
        lost, `packets_lost`; `bytes_sent` and `bytes_received`, in UDP datagrams.
        """

    @property
    def link_settings(self) -> dict[str, int]:
        """How the link is set, as the kernel granted it.

        `dedicated_link`; `receive_buffer_bytes` and `send_buffer_bytes` of the UDP socket, as the
        kernel reports them: Linux twice what it grants.
        """

@final
class LocalServer(TransportServer):
    """The server's end of a unix socket, for clients on the same computer.

    It listens from its construction on; requests come out of `next_request`, as from `QuicServer`.
    The socket's file is removed at the end. One that a killed server left is replaced.

    Args:
        path: the socket's file, of at most 107 bytes. Clients name it `unix:` and the path.
        metadata: what each client is told when it connects. None: there is no policy yet, and
            clients are answered `not_ready` until `set_metadata`.
        api_keys: a client must give one of them; empty accepts every process that may
            open the file.
        max_message_bytes: the largest request. One client may have requests of twice, all of them
            together of eight times that waiting for their answers.
        mode: permissions of the file. The default is for processes of the server's user only.

    Raises:
        OSError: another server listens there, something else is in the way, or the directory does
            not exist or cannot be written to.
        ValueError: a path that is too long, a mode that is none, or a key that is none, which the
            message does not show.
    """

    def __new__(
        cls,
        path: str | PathLike[str],
        *,
        metadata: dict[str, Any] | None = None,
        api_keys: Sequence[str] = ...,
        max_message_bytes: int = 67108864,
        mode: int = 384,
    ) -> Self: ...
    @property
    def path(self) -> Path:
        """The socket's file."""

@final
class WebsocketServer(TransportServer):
    """The server's end of openpi's WebSocket protocol, for any number of clients.

    It listens from its construction on; requests come out of `next_request`, as from `QuicServer`.
    Clients of openpi wait for `metadata`; ours are told why they cannot come in yet. `/healthz` is
    a page that needs no key.

    Args:
        host: address to listen on; `::` listens on IPv4, too.
        port: TCP port; 0 lets the system choose.
        metadata: what each client is sent first. None: there is no policy yet, and clients wait
            until `set_metadata`.
        readiness: returns why no request would be accepted now, and which problem `/healthz`
            reports; None for none. It is called on other threads.
        sessions_socket: a unix socket to which connections below `/api/v1/` are passed; the
            headers `X-OpenPI-Flash-Client` and `X-OpenPI-Flash-Key` name the client and the place
            of its key.
        certificate_dir: the folder of a certificate, as for `QuicServer`; the same folder gives the
            same one. With a certificate, clients may also use `wss://` (TLS 1.3) on the same port.
        tls_certificate: PEM file of your own certificate with its chain, instead.
        tls_key: PEM file of its private key.
        api_keys: a client must send one of them in `Authorization: Api-Key`; empty accepts every
            client.
        max_message_bytes: the largest request. One client may have requests of twice, all of them
            together of eight times that waiting for their answers.
        expose_tracebacks: whether openpi's own clients get the traceback of an error.
        ping_interval: seconds between two pings.
        longest_silence: seconds that a client may send nothing, not even the answer to a ping.

    Raises:
        OSError: the address is in use or cannot be listened on, or a file (its `filename`) cannot
            be read.
        FlashTransportError: what the files hold is no certificate with its key.
        ValueError: a key that is none, which the message does not show; a time that is none.
    """

    def __new__(
        cls,
        host: str = "0.0.0.0",
        port: int = 8000,
        *,
        metadata: dict[str, Any] | None = None,
        readiness: Callable[[], tuple[str | None, str | None]] | None = None,
        sessions_socket: str | PathLike[str] | None = None,
        certificate_dir: str | PathLike[str] | None = None,
        tls_certificate: str | PathLike[str] | None = None,
        tls_key: str | PathLike[str] | None = None,
        api_keys: Sequence[str] = ...,
        max_message_bytes: int = 67108864,
        expose_tracebacks: bool = True,
        ping_interval: float = 20.0,
        longest_silence: float = 900.0,
    ) -> Self: ...
    @property
    def port(self) -> int:
        """The TCP port that is listened on."""

    @property
    def connections(self) -> int:
        """How many connections are open now, whatever they have asked for."""

    @property
    def waiting_clients(self) -> int:
        """How many clients wait for `set_metadata`."""

    @property
    def links(self) -> dict[str, dict[str, float]]:
        """`rtt_ms` of each client's last ping that was answered, by the client's name."""

@final
class TransportRequest:
    """A request, to be answered once with `respond` or `fail`, from any thread.

    One that is dropped without an answer answers `internal` by itself.
    """

    @property
    def kind(self) -> Literal["infer", "reset"]:
        """The kind of request."""

    @property
    def session(self) -> str:
        """The session that the client named; its `peer` if it named none."""

    @property
    def peer(self) -> str:
        """The client's address: `ip:port#connection`, or `pid=…,uid=…#connection`."""

    @property
    def size(self) -> int:
        """Bytes of the message."""

    @property
    def observation(self) -> dict[str, Any]:
        """What the client sent; arrays are read-only views on the received bytes.

        Raises:
            CodecError: what the client sent is no message, or no map.
        """

    @property
    def cancelled(self) -> bool:
        """Whether the client has cancelled the request or is gone."""

    def send_first_actions(self, first: dict[str, Any]) -> int:
        """Send the first actions ahead of the answer. Harmless when the client has left.

        Args:
            first: `actions` with as many steps as the request's `first_actions` says; a request
                without that key must not be sent any.

        Returns:
            Bytes of the map.

        Raises:
            CodecError: the map cannot travel.
            FlashTransportError: they are sent already, or the request is answered.
        """

    def respond(self, result: dict[str, Any]) -> int:
        """Answer with a result. Harmless when the client has left.

        Returns:
            Bytes of the answer.

        Raises:
            CodecError: the result cannot travel; the request is not answered yet.
            FlashTransportError: the request is answered already.
        """

    def fail(self, code: str, message: str, traceback: str = "") -> None:
        """Answer with an error. Harmless when the client has left.

        Args:
            code: `bad_request`, `unauthenticated`, `superseded`, `deadline_exceeded`,
                `not_ready` or `internal`.
            message: what the client's user should read.
            traceback: for openpi's own client, which gets it in place of the message from a
                `WebsocketServer` with `expose_tracebacks`; nobody else does.

        Raises:
            ValueError: `code` is none of these.
            FlashTransportError: the request is answered already.
        """
