"""The client of openpi-flash's own transport: QUIC, or a unix socket."""

from __future__ import annotations

import threading
from os import PathLike
from typing import Any, ClassVar

from flash_transport._native import Completions, PackedRequest, TransportClient
from flash_transport.address import parse_address
from flash_transport.api_key import checked_api_key
from flash_transport.first_actions import FirstActions
from flash_transport.futures import FutureTable, InferenceFuture
from flash_transport.image_encoding import Encoding, image_encoder
from flash_transport.known_servers_access import warn_of_other_writers
from flash_transport.link_estimate import UNMEASURED, LinkEstimate
from flash_transport.policy import Convert, PolicyClient
from flash_transport.session_name import checked_session
from flash_transport.stats import CallStats, RoundTrip
from flash_transport.unpinned import warn_unpinned

__all__ = ["FlashTransportPolicy"]

DEFAULT_PORT = 5555


class FlashTransportPolicy(PolicyClient):
    """A policy behind a server of openpi-flash, over QUIC or a unix socket.

    Any number of threads may share one; their requests are sent in parallel, each on its own
    stream. When a request is given up, by its timeout, by `cancel()` or by Ctrl-C, the server is
    told and drops the work. Network and encryption run on a thread of their own, without the GIL.

    The constructor returns once the server's certificate is accepted; the hello, which carries
    `api_key`, is sent but its answer is not awaited. So a wrong `api_key`, and a server that is not
    ready, may be reported by the first call instead.

    A client works only in the process that made it, not in a fork of it.

    Args:
        host: name or address of the server, with or without its port (`gpu`, `10.0.0.5:5555`,
            `[::1]:5555`); or `unix:` and the path of the socket of a server on this computer,
            which needs none of the options for trust.
        port: UDP port of the server; None: the one in `host`, else 5555.
        api_key: one of the server's `api_keys`, where it has some; printable ASCII.
        server_fingerprint: SHA-256 of the server's certificate, which the server prints when it
            starts (64 hex digits, colons allowed). Without it the connection is encrypted, but the
            server is not authenticated: an attacker on the network path could impersonate the
            server and move the robot. Give the fingerprint, or one of the next two, on any network
            that others can use.
        ca_file: PEM file of certificate authorities; one of them must have signed the server's
            certificate for `host`.
        known_servers: file of known servers, like SSH's `known_hosts`: a new server is trusted and
            added to the file, one whose certificate has changed is refused.
        session: name under which the server keeps this client's requests apart from others', also
            after a reconnection: at most 128 characters; None: a random one.
        connect_timeout: seconds to wait for a server that is not there or not ready (yet), now and
            after every loss of the connection.
        open_loop_horizon: see `PolicyClient`.
        dedicated_link: nothing else uses the link to the server: requests are sent at full rate
            whatever is lost, and other traffic on the link gets nothing.
        relay: name or address of a relay, with or without its port (5557), for a server that cannot
            be reached; `host` is then the server's name there. The server is authenticated as
            without a relay, which can read nothing. Where the two reach each other, they soon do
            without it.
        relay_token_file: file with the token of that name.
        image_encoding: how images travel, arrays of uint8 [height, width, 3] or
            [3, height, width]. raw: as they are. jpeg: as JPEG of `jpeg_quality`. auto: raw where
            the measured link carries them within `image_budget`, else as JPEG of the best quality
            that fits. A server that does not read JPEG gets them raw.
        jpeg_quality: 1 to 100; of auto the best.
        least_jpeg_quality: auto chooses no lower one, however slow the link is.
        image_budget: seconds that the images of a request may take on the link, beyond its round
            trip.

    Raises:
        Disconnected: no connection within `connect_timeout`, or a server of another protocol.
        AuthenticationFailed: the server does not accept `api_key`; raised here or by the first
            call.
        UntrustedServer: the server's certificate is not the pinned one, not the one in
            `known_servers`, or none of `ca_file`.
        ValueError: `host`, `port`, `api_key` or `session` is malformed, `server_fingerprint` is no
            fingerprint, `ca_file` holds no certificates, or more than one of the three is given;
            `relay` or `relay_token_file` is no good, or missing beside the other; or an option of
            images is out of range.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        api_key: str | None = None,
        server_fingerprint: str | None = None,
        ca_file: str | PathLike[str] | None = None,
        known_servers: str | PathLike[str] | None = None,
        session: str | None = None,
        connect_timeout: float = 10.0,
        open_loop_horizon: int | None = None,
        dedicated_link: bool = False,
        relay: str | None = None,
        relay_token_file: str | PathLike[str] | None = None,
        image_encoding: Encoding = "raw",
        jpeg_quality: int = 92,
        least_jpeg_quality: int = 70,
        image_budget: float = 0.02,
    ) -> None:
        super().__init__(open_loop_horizon)
        self._images = image_encoder(image_encoding, jpeg_quality, least_jpeg_quality, image_budget)
        self._measures = not _is_local(host)
        self._futures = FutureTable()
        self._dispatcher: threading.Thread | None = None
        self._dispatcher_lock = threading.Lock()
        self._closed = False
        self._client = TransportClient(
            *_destination(host, port),
            api_key=checked_api_key(api_key),
            server_fingerprint=server_fingerprint,
            ca_file=ca_file,
            known_servers=known_servers,
            session=None if session is None else checked_session(session),
            connect_timeout=connect_timeout,
            dedicated_link=dedicated_link,
            relay=relay,
            relay_token_file=relay_token_file,
            **self._connecting,
        )

        if known_servers is not None:
            warn_of_other_writers(known_servers)
        elif (server_fingerprint, ca_file) == (None, None) and not _is_local(host):
            warn_unpinned(self._client.server)

    _connecting: ClassVar[dict[str, Any]] = {}
    """How `TransportClient` connects, if not by itself."""

    @property
    def link_settings(self) -> dict[str, int]:
        """The settings of the link, as the kernel granted them.

        `dedicated_link`; `receive_buffer_bytes` and `send_buffer_bytes` of the UDP socket, as the
        kernel reports them: Linux twice what it grants.
        """
        return self._client.link_settings

    @property
    def link_estimate(self) -> LinkEstimate | None:
        """What is known of the path to the server; None on a unix socket."""
        if not self._measures:
            return None
        known = self._client.link_estimate
        return UNMEASURED if known is None else LinkEstimate(*known)

    def get_server_metadata(self) -> dict[str, Any]:
        """The server's metadata, from when the connection was made.

        Waits up to `connect_timeout` if it has not arrived yet.

        Raises:
            Disconnected: the connection was lost before, or could not be made again in time.
            ServerError: `not_ready`: the server is there, and still not ready.
            AuthenticationFailed: the server does not accept `api_key`.
            UntrustedServer: the server is not the trusted one.
        """
        return self._client.get_server_metadata()

    def close(self) -> None:
        """Closes the connection. Requests under way, futures too, end in Disconnected."""
        self._closed = True
        self._client.close()
        dispatcher = self._dispatcher
        if dispatcher is not None and dispatcher is not threading.current_thread():
            dispatcher.join(_LAST_ANSWERS_S)

    def __repr__(self) -> str:
        if self._client.is_forked:
            state = ", of another process"
        else:
            state = ", closed" if self._closed else ""
        return f"<FlashTransportPolicy {self._client.server}{state}>"

    def _infer(self, observation: dict[str, Any], timeout: float | None) -> dict[str, Any]:
        return self._client.infer(self._encoded(observation)[0], timeout)

    def _infer_with_stats(
        self, observation: dict[str, Any], timeout: float | None
    ) -> tuple[dict[str, Any], CallStats]:
        observation, jpeg_quality = self._encoded(observation)
        answer, numbers = self._client.infer_with_stats(observation, timeout)
        return answer, CallStats(*numbers, jpeg_quality)

    def _submit(
        self,
        observation: dict[str, Any],
        timeout: float | None,
        convert: Convert | None,
        first: FirstActions | None,
    ) -> InferenceFuture:
        return self._begin(observation, timeout, convert, first)[1]

    def _begin(
        self,
        observation: dict[str, Any],
        timeout: float | None,
        convert: Convert | None,
        first: FirstActions | None,
    ) -> tuple[PackedRequest, InferenceFuture]:
        observation, jpeg_quality = self._encoded(observation)
        request = self._client.pack(observation, timeout, None if first is None else first.steps)
        self._start_dispatcher()
        ticket, future = self._futures.enter(request, convert, first, jpeg_quality=jpeg_quality)
        try:
            self._client.submit(request, timeout, ticket)
        except BaseException:
            self._futures.take(ticket)
            raise
        return request, future

    def _reset(self) -> None:
        self._client.reset()

    def _encoded(self, observation: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """The observation as it travels, and the quality of its images; 0 if they are raw."""
        if self._images is None or not self._client.reads_jpeg:
            return observation, 0
        return self._images.encoded(observation, self.link_estimate)

    def _start_dispatcher(self) -> None:
        with self._dispatcher_lock:
            if self._dispatcher is None:
                self._dispatcher = threading.Thread(
                    target=_dispatch,
                    args=(self._client.completions, self._futures),
                    name="flash-futures",
                    daemon=True,
                )
                self._dispatcher.start()


def _is_local(host: str) -> bool:
    return isinstance(host, str) and host.startswith("unix:")


def _destination(host: str, port: int | None) -> tuple[str, int]:
    """Host and port for the compiled half, where `unix:` and a path is a host."""
    if _is_local(host):
        return host, DEFAULT_PORT if port is None else port
    return parse_address(host, port).with_default(DEFAULT_PORT)


def _dispatch(completions: Completions, futures: FutureTable) -> None:
    """Sets the results of futures. Holds no policy: when that is dropped, this ends."""
    while (completion := completions.next()) is not None:
        ticket, answer, error, round_trip = completion
        if round_trip is not None:
            futures.end(ticket, answer, error, RoundTrip(*round_trip))
        elif answer is not None:
            futures.begin(ticket, answer)
        else:
            futures.end(ticket, None, error, RoundTrip())
        # its arrays would otherwise live until the next answer
        del completion, answer, error


_LAST_ANSWERS_S = 1.0
"""Longest wait of `close` for the futures to end; a callback may block them."""
