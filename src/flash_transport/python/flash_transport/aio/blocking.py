"""The client over aioquic for threads: blocking calls to an event loop on a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from flash_transport.aio.policy import (
    RESET_S,
    Answer,
    AsyncFlashTransportPolicy,
    Options,
    seconds,
)
from flash_transport.aio.wire import Kind, Message, read_answer
from flash_transport.errors import Disconnected, FlashTransportError
from flash_transport.first_actions import FirstActions
from flash_transport.futures import FutureTable, InferenceFuture
from flash_transport.policy import Convert, PolicyClient
from flash_transport.stats import CallStats, RoundTrip

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["BlockingAioPolicy"]

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, T]]


class BlockingAioPolicy(PolicyClient):
    """A policy behind a QUIC server of openpi-flash, over aioquic.

    `flash_transport.aio.FlashTransportPolicy`. Does what `flash_transport.FlashTransportPolicy`
    does, without the compiled half: any number of threads may share one, and the server is told
    when a request is given up, by its timeout, by `cancel()` or by Ctrl-C. A client works only in
    the process that made it, not in a fork of it.

    Args:
        host: name or address of the server, with or without its port.
        port: UDP port of the server; None: the one in `host`, else 5555.
        open_loop_horizon: see `PolicyClient`.
        dedicated_link: accepted for compatibility with the compiled client, and ignored: aioquic
            has one congestion control for every link.
        options: those of `AsyncFlashTransportPolicy`.

    Raises:
        Disconnected: no connection within `connect_timeout`, or a server of another protocol.
        ServerError: `not_ready`: the server is there, and still not ready after `connect_timeout`.
        AuthenticationFailed: the server does not accept `api_key`.
        UntrustedServer: the server is not the trusted one.
        ValueError: an argument is malformed.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        open_loop_horizon: int | None = None,
        dedicated_link: bool = False,  # noqa: ARG002 - as the docstring says
        **options: Unpack[Options],
    ) -> None:
        super().__init__(open_loop_horizon)
        self._policy = AsyncFlashTransportPolicy(host, port, **options)
        self._futures = FutureTable()
        self._process = os.getpid()
        self._is_closed = False
        # no work is handed to a loop that was told to stop
        self._closing = threading.Lock()
        self._loop = asyncio.new_event_loop()
        # a daemon that does not hold the policy: an unclosed client neither keeps its program from
        # ending nor itself alive
        self._thread = threading.Thread(
            target=_serve, args=(self._loop, self._policy), name="flash-aio", daemon=True
        )
        self._thread.start()
        try:
            self._wait(self._policy.connect)
        except BaseException:
            self.close()
            raise

    def get_server_metadata(self) -> dict[str, Any]:
        """The server's metadata, from when the connection was made."""
        return self._policy.get_server_metadata()

    def close(self) -> None:
        """Closes the connection. Requests under way, futures too, end in Disconnected."""
        if os.getpid() != self._process:
            return
        with self._closing:
            if not self._is_closed:
                self._is_closed = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        # a future's callback may close, too
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __del__(self) -> None:
        if hasattr(self, "_thread"):
            self.close()

    def __repr__(self) -> str:
        if os.getpid() != self._process:
            state = ", of another process"
        else:
            state = ", closed" if self._is_closed else ""
        return f"<FlashTransportPolicy {self._policy.server}{state}>"

    def _infer(self, observation: dict[str, Any], timeout: float | None) -> dict[str, Any]:
        return self._infer_with_stats(observation, timeout)[0]

    def _infer_with_stats(
        self, observation: dict[str, Any], timeout: float | None
    ) -> tuple[dict[str, Any], CallStats]:
        within = seconds("timeout", timeout)
        started = time.perf_counter()
        message = self._policy.message(observation, within)
        serialize_ms = 1000 * (time.perf_counter() - started)
        answer = self._wait(lambda: self._policy.ask(message, within))
        result = read_answer(answer.bytes, self._policy.server)
        return result, CallStats.of(serialize_ms, _round_trip(answer))

    def _submit(
        self,
        observation: dict[str, Any],
        timeout: float | None,
        convert: Convert | None,
        first: FirstActions | None,
    ) -> InferenceFuture:
        within = seconds("timeout", timeout)
        started = time.perf_counter()
        steps = None if first is None else first.steps
        message = self._policy.message(observation, within, steps)
        sent = _Sent(1000 * (time.perf_counter() - started))
        named = observation.get("session")
        session = named if isinstance(named, str) else self._policy.session
        # before the work begins, which may bring first actions
        ticket, future = self._futures.enter(sent, convert, first)
        begin = functools.partial(self._futures.begin, ticket)
        try:
            work = self._hand_over(
                lambda: self._policy.ask_in_turn(message, within, session, begin)
            )
        except BaseException:
            self._futures.take(ticket)
            raise
        sent.work = work
        work.add_done_callback(functools.partial(_deliver, self._futures, ticket, self._policy))
        return future

    def _reset(self) -> None:
        message = Message.of(Kind.RESET, {})
        answer = self._wait(lambda: self._policy.ask(message, RESET_S))
        read_answer(answer.bytes, self._policy.server)

    def _hand_over(self, begin: Work[T]) -> concurrent.futures.Future[T]:
        """Starts the work of `begin` in the event loop."""
        if os.getpid() != self._process:
            raise RuntimeError(
                f"this client of {self._policy.server} was made before a fork and has no "
                "connection here; make a new one after the fork"
            )
        with self._closing:
            if not self._is_closed:
                return asyncio.run_coroutine_threadsafe(begin(), self._loop)
        raise self._policy.closed_error()

    def _wait(self, begin: Work[T]) -> T:
        """Waits for the work of `begin`, and cancels it when this thread is interrupted."""
        tasks: list[asyncio.Task[Any] | None] = []

        async def run() -> T:
            tasks.append(asyncio.current_task())
            return await begin()

        try:
            return self._hand_over(run).result()
        except concurrent.futures.CancelledError:
            raise self._policy.closed_error() from None
        except FlashTransportError:
            raise
        except BaseException:
            # Ctrl-C, which may arrive before this thread knows that the work has begun
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(_cancel, tasks)
            raise


def _cancel(tasks: list[asyncio.Task[Any] | None]) -> None:
    for task in tasks:
        if task is not None:
            task.cancel()


@dataclass
class _Sent:
    """A submitted request."""

    serialize_ms: float
    work: concurrent.futures.Future[Answer] | None = None

    def cancel(self) -> None:
        """Tells the server to drop the work."""
        if self.work is not None:
            self.work.cancel()


def _deliver(
    futures: FutureTable,
    ticket: int,
    policy: AsyncFlashTransportPolicy,
    work: concurrent.futures.Future[Answer],
) -> None:
    """Sets the result of a future. Holds no blocking policy, so that one can be dropped."""
    try:
        answer = work.result()
        result = read_answer(answer.bytes, policy.server)
    except concurrent.futures.CancelledError:
        error: Disconnected = policy.closed_error()
        futures.end(ticket, None, error, RoundTrip())
    except Exception as failure:
        futures.end(ticket, None, failure, RoundTrip())
    else:
        futures.end(ticket, result, None, _round_trip(answer))


def _round_trip(answer: Answer) -> RoundTrip:
    return RoundTrip(
        round_trip_ms=1000 * answer.round_trip_s,
        bytes_up=answer.bytes_up,
        bytes_down=len(answer.bytes) + (answer.first.bytes if answer.first else 0),
        connect_attempts=answer.connect_attempts,
        first_action_ms=1000 * (answer.first.after_s if answer.first else answer.round_trip_s),
    )


def _serve(loop: asyncio.AbstractEventLoop, policy: AsyncFlashTransportPolicy) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(policy.close())
        # tasks that began after the policy was closed
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
    finally:
        loop.close()
