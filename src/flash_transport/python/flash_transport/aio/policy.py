"""The client in an event loop: one connection, made when somebody needs it."""

from __future__ import annotations

import asyncio
import math
import random
import secrets
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import flash_transport
from flash_transport.aio.dial import AttemptFailed, Server, dial
from flash_transport.aio.link import AnswerTooLarge, EndedBefore, Link, LostInExchange
from flash_transport.aio.wire import Kind, hello_of, parse_fingerprint, read_answer, request_of
from flash_transport.errors import CodecError, Disconnected, Timeout

__all__ = ["AsyncFlashTransportPolicy", "seconds"]

ANSWER_BYTES = 64 << 20
RESET_S = 10.0
"""A reset does nothing on the server that takes time."""
FIRST_DELAY_S, LONGEST_DELAY_S = 0.05, 2.0


class AsyncFlashTransportPolicy:
    """A policy behind a QUIC server of openpi-flash, for asyncio.

    Any number of tasks may share one; their requests go side by side, each on a stream of its own.
    A lost connection costs the requests it carried: the next one connects again. A request that is
    given up, by its timeout or by cancelling its task, is given up at the server, too.

    Args:
        host: name or address of the server.
        port: the server's UDP port.
        api_key: what the server wants to hear, if it has `api_keys`.
        server_fingerprint: SHA-256 of the server's certificate, 64 hex digits. Without it and
            without `ca_file` the connection is encrypted, but the server is not authenticated.
        ca_file: PEM file of the authorities that sign the server's certificate.
        session: names this client's line of requests, also over a reconnection; None makes one up.
        connect_timeout: how many seconds to wait for a server that is not there (yet).

    Raises:
        ValueError: an argument is malformed.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 5555,
        *,
        api_key: str | None = None,
        server_fingerprint: str | None = None,
        ca_file: str | None = None,
        session: str | None = None,
        connect_timeout: float = 10.0,
    ) -> None:
        within = seconds("connect_timeout", connect_timeout)
        if within is None:
            raise ValueError("connect_timeout must have an end")
        self._connect_timeout = within
        self._server = Server(
            host=host,
            port=port,
            fingerprint=None
            if server_fingerprint is None
            else parse_fingerprint(server_fingerprint),
            ca_file=ca_file,
            hello=hello_of(
                client="flash_transport.aio",
                version=flash_transport.__version__,
                api_key=api_key,
                session=secrets.token_hex(8) if session is None else session,
            ),
        )
        self._link: Link | None = None
        self._hello_answer = b"\x00\x80"
        self._connecting: asyncio.Task[Link] | None = None
        self._waiting = 0
        self._reason = "the server is silent"
        self._is_closed = False

    async def connect(self) -> None:
        """Connects now instead of at the first request.

        Raises:
            Disconnected: no connection within `connect_timeout`, or a server of another protocol.
            AuthenticationFailed: the server wants another `api_key`.
            UntrustedServer: the server's certificate is not the pinned one.
        """
        await self._live_link(self._now(), self._connect_timeout)

    async def infer(
        self, observation: dict[str, Any], timeout: float | None = None
    ) -> dict[str, Any]:
        """Asks the policy what to do.

        Args:
            observation: what the robot sees, as the policy wants it.
            timeout: seconds until the answer is of no use any more, connecting included.

        Returns:
            The answer; its arrays are read-only views on the received bytes.

        Raises:
            Timeout: the answer did not come in time. It will not come later.
            Disconnected: the connection was lost, or could not be made again in time.
            ServerError: the server could not answer this request.
            Superseded: a newer observation took this one's place.
            CodecError: the observation, or the answer, is nothing that can travel.
        """
        within = seconds("timeout", timeout)
        answer = await self.ask(request_of(Kind.INFER, observation), within)
        return read_answer(answer, str(self._server))

    async def reset(self) -> None:
        """Starts a new episode.

        Raises:
            What `infer` raises.
        """
        read_answer(await self.ask(request_of(Kind.RESET, {}), RESET_S), str(self._server))

    def get_server_metadata(self) -> dict[str, Any]:
        """What the server said about itself when the connection was made."""
        return read_answer(self._hello_answer, str(self._server))

    async def close(self) -> None:
        """Closes the connection. Requests that other tasks wait for end in Disconnected."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.hang_up("this client is closed")
        # those who wait hear of it before this returns
        await asyncio.sleep(0)

    async def __aenter__(self) -> AsyncFlashTransportPolicy:
        await self.connect()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncFlashTransportPolicy({str(self._server)!r})"

    async def ask(self, request: bytes, within: float | None) -> bytes:
        """Sends a whole request, connecting first where needed; returns the whole answer."""
        asked = self._now()
        try:
            return await self._carry(request, asked, within)
        except LostInExchange as error:
            if self._is_closed:
                raise self.closed_error() from None
            raise Disconnected(
                f"connection to {self._server} was lost before the answer came: {error}; "
                "the next request connects again"
            ) from None
        except AnswerTooLarge:
            raise CodecError(
                f"answer of {self._server} is larger than {ANSWER_BYTES} bytes"
            ) from None

    def closed_error(self) -> Disconnected:
        """What a closed client answers."""
        return Disconnected(f"this client of {self._server} is closed")

    async def _carry(self, request: bytes, asked: float, within: float | None) -> bytes:
        connect_within = self._connect_timeout
        if within is not None:
            connect_within = min(within, connect_within)
        while True:
            link = await self._live_link(asked, connect_within)
            exchange = link.exchange(request, ANSWER_BYTES)
            left = None if within is None else asked + within - self._now()
            try:
                return await asyncio.wait_for(exchange, left)
            except asyncio.TimeoutError:
                raise Timeout(f"no answer from {self._server} within {within:g} s") from None
            except EndedBefore:
                # the connection ended before this request used it
                await asyncio.sleep(0)

    async def _live_link(self, asked: float, within: float) -> Link:
        self._waiting += 1
        try:
            while not self._is_closed:
                if self._link is not None and self._link.is_up:
                    return self._link
                # An attempt goes on when the request that caused it has left, so that a control
                # loop of short timeouts comes to a connection, too.
                attempt = asyncio.shield(self._attempt())
                left = asked + within - self._now()
                try:
                    await asyncio.wait_for(attempt, left)
                except AttemptFailed:
                    continue
                except asyncio.TimeoutError:
                    break
                except asyncio.CancelledError:
                    if not self._is_closed:
                        raise
        finally:
            self._waiting -= 1
        if self._is_closed:
            raise self.closed_error()
        raise Disconnected(
            f"cannot connect to {self._server} within {within:g} s: {self._reason}; check that "
            "the server runs, that host and port are right, and that UDP port "
            f"{self._server.port} is open on the way"
        )

    def _attempt(self) -> asyncio.Task[Link]:
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.get_running_loop().create_task(self._keep_dialing())
            # an error that nobody waits for any more is not news
            self._connecting.add_done_callback(
                lambda task: None if task.cancelled() else task.exception()
            )
        return self._connecting

    async def _keep_dialing(self) -> Link:
        for delay in _backoff():
            try:
                self._link, self._hello_answer = await dial(self._server, self._connect_timeout)
            except AttemptFailed as failure:
                self._reason = str(failure)
            else:
                return self._link
            await asyncio.sleep(delay)
            if not self._waiting:
                break
        raise AttemptFailed(self._reason)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def seconds(name: str, value: float | None) -> float | None:
    """A time to wait. None and infinity mean: without end.

    Raises:
        ValueError: negative, or not a number.
    """
    if value is None or value == math.inf:
        return None
    if math.isnan(value) or value < 0:
        raise ValueError(f"{name} must be a number of seconds from 0 up, got {value:g}")
    return float(value)


def _backoff() -> Iterator[float]:
    """Seconds between attempts, spread so that robots do not come back all at once."""
    step = FIRST_DELAY_S
    while True:
        yield random.uniform(step / 2, step)
        step = min(2 * step, LONGEST_DELAY_S)
