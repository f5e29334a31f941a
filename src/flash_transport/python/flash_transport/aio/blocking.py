"""The same client for threads: an event loop on a thread of its own behind blocking calls."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from flash_transport.aio.policy import RESET_S, AsyncFlashTransportPolicy, seconds
from flash_transport.aio.wire import Kind, read_answer, request_of
from flash_transport.errors import FlashTransportError

__all__ = ["FlashTransportPolicy"]

T = TypeVar("T")


class FlashTransportPolicy:
    """A policy behind a QUIC server of openpi-flash, over aioquic.

    What `flash_transport.FlashTransportPolicy` does, without the compiled half: any number of
    threads may share one, and a request that is given up, by its timeout or by Ctrl-C, is given up
    at the server, too. Made before a fork, it works only in the process that made it.

    Args:
        host: name or address of the server.
        port: the server's UDP port.
        api_key: what the server wants to hear, if it has `api_keys`.
        server_fingerprint: SHA-256 of the server's certificate, 64 hex digits. Without it and
            without `ca_file` the connection is encrypted, but the server is not authenticated.
        ca_file: PEM file of the authorities that sign the server's certificate.
        session: names this client's line of requests, also over a reconnection; None makes one up.
        connect_timeout: how many seconds to wait for a server that is not there (yet), now and
            whenever the connection was lost.

    Raises:
        Disconnected: no connection within `connect_timeout`, or a server of another protocol.
        AuthenticationFailed: the server wants another `api_key`.
        UntrustedServer: the server's certificate is not the pinned one.
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
        self._policy = AsyncFlashTransportPolicy(
            host,
            port,
            api_key=api_key,
            server_fingerprint=server_fingerprint,
            ca_file=ca_file,
            session=session,
            connect_timeout=connect_timeout,
        )
        self._server = str(self._policy._server)
        self._process = os.getpid()
        self._is_closed = False
        # nothing is handed to a loop that was told to stop
        self._closing = threading.Lock()
        self._loop = asyncio.new_event_loop()
        # a client that nobody closed does not keep its program from ending, nor itself alive
        self._thread = threading.Thread(
            target=_serve, args=(self._loop, self._policy), name="flash-aio", daemon=True
        )
        self._thread.start()
        try:
            self._wait(self._policy.connect())
        except BaseException:
            self.close()
            raise

    def infer(self, observation: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
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
        request = request_of(Kind.INFER, observation)
        return read_answer(self._wait(self._policy.ask(request, within)), self._server)

    def reset(self) -> None:
        """Starts a new episode.

        Raises:
            What `infer` raises.
        """
        request = request_of(Kind.RESET, {})
        read_answer(self._wait(self._policy.ask(request, RESET_S)), self._server)

    def get_server_metadata(self) -> dict[str, Any]:
        """What the server said about itself when the connection was made."""
        return self._policy.get_server_metadata()

    def close(self) -> None:
        """Closes the connection. Requests that other threads wait for end in Disconnected."""
        if os.getpid() != self._process:
            return
        with self._closing:
            if not self._is_closed:
                self._is_closed = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def __enter__(self) -> FlashTransportPolicy:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_thread"):
            self.close()

    def __repr__(self) -> str:
        return f"FlashTransportPolicy({self._server!r})"

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` in the event loop, and cancels it when this thread is interrupted."""
        if os.getpid() != self._process:
            work.close()
            raise RuntimeError(
                f"this client of {self._server} was made before a fork and has no connection "
                "here; make a new one after the fork"
            )
        with self._closing:
            if self._is_closed:
                work.close()
                raise self._policy.closed_error()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise self._policy.closed_error() from None
        except FlashTransportError:
            raise
        except BaseException:
            future.cancel()
            raise


def _serve(loop: asyncio.AbstractEventLoop, policy: AsyncFlashTransportPolicy) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(policy.close())
        # whoever came too late to be told
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
    finally:
        loop.close()
