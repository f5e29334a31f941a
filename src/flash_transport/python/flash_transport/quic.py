"""openpi-flash's own transport, from the robot's side."""

from __future__ import annotations

import threading
from os import PathLike
from typing import Any

from flash_transport._native import Completions, QuicClient
from flash_transport.futures import FutureTable, InferenceFuture
from flash_transport.policy import Convert, Policy
from flash_transport.stats import CallStats

__all__ = ["FlashTransportPolicy"]


class FlashTransportPolicy(Policy):
    """A policy behind a QUIC server of openpi-flash.

    Any number of threads may share one; their requests go side by side, each on a stream of its
    own. A request that is given up, by its timeout, by `cancel()` or by Ctrl-C, is given up at the
    server, too. Network and encryption run on a thread of their own, without the GIL.

    It is made when the server has answered and is trusted, with its first words to it on their
    way: the first request leaves behind them, without waiting for what the server says. So a server
    that wants another `api_key`, or is not ready, may say so only to the first call.

    Made before a fork, it works only in the process that made it.

    Args:
        host: name or address of the server; or `unix:` and the path of the socket of a server on
            this computer, which needs none of the options for trust.
        port: the server's UDP port.
        api_key: what the server wants to hear, if it has `api_keys`.
        server_fingerprint: SHA-256 of the server's certificate, which the server prints at its
            start (64 hex digits, colons allowed). Without it the connection is encrypted, but the
            server is not authenticated: whoever sits on the way can play the server and move the
            robot. Pin the fingerprint, or give one of the next two, on any network that is not
            yours alone.
        ca_file: PEM file of the authorities of which one must have signed the server's certificate
            for `host`.
        known_servers: file of the servers that were met before, as SSH keeps one: a new server is
            trusted and written into it, one whose certificate has changed is refused.
        session: names this client's line of requests to the server, also over a reconnection;
            None makes one up.
        connect_timeout: how many seconds to wait for a server that is not there, or not ready,
            (yet), now and whenever the connection was lost.
        open_loop_horizon: see `Policy`.
        dedicated_link: nobody else uses the link to the server: requests are sent at full speed
            whatever is lost, and other traffic starves beside them.

    Raises:
        Disconnected: no connection within `connect_timeout`, or a server of another protocol.
        AuthenticationFailed: the server wants another `api_key`; raised here or by the first call,
            whichever is the first to know.
        UntrustedServer: the server's certificate is not the pinned one, not the one in
            `known_servers`, or none of `ca_file`.
        ValueError: `server_fingerprint` is no fingerprint, `ca_file` holds no certificates, or more
            than one of the three is given.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 5555,
        *,
        api_key: str | None = None,
        server_fingerprint: str | None = None,
        ca_file: str | PathLike[str] | None = None,
        known_servers: str | PathLike[str] | None = None,
        session: str | None = None,
        connect_timeout: float = 10.0,
        open_loop_horizon: int | None = None,
        dedicated_link: bool = False,
    ) -> None:
        super().__init__(open_loop_horizon)
        self._futures = FutureTable()
        self._dispatcher: threading.Thread | None = None
        self._dispatcher_lock = threading.Lock()
        self._closed = False
        self._client = QuicClient(
            host,
            port,
            api_key=api_key,
            server_fingerprint=server_fingerprint,
            ca_file=ca_file,
            known_servers=known_servers,
            session=session,
            connect_timeout=connect_timeout,
            dedicated_link=dedicated_link,
        )

    @property
    def link_settings(self) -> dict[str, int]:
        """How the link is set, as the kernel granted it.

        `dedicated_link`; `receive_buffer_bytes` and `send_buffer_bytes` of the UDP socket, as the
        kernel reports them: Linux twice what it grants.
        """
        return self._client.link_settings

    def get_server_metadata(self) -> dict[str, Any]:
        """What the server said about itself when the connection was made.

        Waits for that up to `connect_timeout`, where it is not known yet.

        Raises:
            Disconnected: the connection was lost before, or could not be made again in time.
            ServerError: `not_ready`: the server is there, and still not ready.
            AuthenticationFailed: the server wants another `api_key`.
            UntrustedServer: the server is not the one that is trusted.
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
        return self._client.infer(observation, timeout)

    def _infer_with_stats(
        self, observation: dict[str, Any], timeout: float | None
    ) -> tuple[dict[str, Any], CallStats]:
        answer, numbers = self._client.infer_with_stats(observation, timeout)
        return answer, CallStats(*numbers)

    def _submit(
        self, observation: dict[str, Any], timeout: float | None, convert: Convert | None
    ) -> InferenceFuture:
        request = self._client.pack(observation, timeout)
        self._start_dispatcher()
        ticket, future = self._futures.enter(request, convert)
        try:
            self._client.submit(request, timeout, ticket)
        except BaseException:
            self._futures.take(ticket)
            raise
        return future

    def _reset(self) -> None:
        self._client.reset()

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


def _dispatch(completions: Completions, futures: FutureTable) -> None:
    """Brings answers to their futures. Holds no policy, so that one that is dropped ends this."""
    while (completion := completions.next()) is not None:
        futures.end(*completion)
        # its arrays would otherwise live until the next one comes
        del completion


_LAST_ANSWERS_S = 1.0
"""Until the futures of a closed client have their ends, unless a callback of theirs blocks."""
