"""The client for asyncio: one connection, made by the first request that needs it."""

from __future__ import annotations

import asyncio
import math
import os
import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypedDict

import flash_transport
from flash_transport.address import parse_address
from flash_transport.aio.dial import AttemptFailed, Server, dial
from flash_transport.aio.lines import Lines, Progress
from flash_transport.aio.link import AnswerTooLarge, EndedBefore, Link, LostInExchange
from flash_transport.aio.trust import Trust
from flash_transport.aio.turn import Turn, superseded
from flash_transport.aio.wire import (
    DEADLINE_KEY,
    Kind,
    Message,
    failure_of,
    hello_of,
    read_answer,
    read_first,
    supports,
)
from flash_transport.api_key import checked_api_key
from flash_transport.errors import CodecError, Disconnected, ServerError, Timeout
from flash_transport.first_actions import FIRST_ACTIONS_KEY, checked_steps, first_actions_of
from flash_transport.session_name import checked_session

__all__ = ["Answer", "AsyncFlashTransportPolicy", "Options", "seconds"]

ANSWER_BYTES = 64 << 20
DEFAULT_PORT = 5555
RESET_S = 10.0
"""Time limit of a reset, which costs the server no time."""
FIRST_DELAY_S, LONGEST_DELAY_S = 0.05, 2.0


OnFirst = Callable[[dict[str, Any]], None]
"""Takes first actions, in the event loop."""


class Options(TypedDict, total=False):
    """The keyword arguments of `AsyncFlashTransportPolicy`, which says what they do."""

    api_key: str | None
    server_fingerprint: str | None
    ca_file: str | os.PathLike[str] | None
    known_servers: str | os.PathLike[str] | None
    session: str | None
    connect_timeout: float


@dataclass(frozen=True)
class FirstArrival:
    """First actions that came ahead.

    Attributes:
        after_s: seconds from the call.
        bytes: of their map.
    """

    after_s: float
    bytes: int


@dataclass(frozen=True)
class Answer:
    """An answer, and what it cost.

    Attributes:
        bytes: all of it, the kind included.
        round_trip_s: seconds from the call to the last byte.
        bytes_up: bytes of the request.
        connect_attempts: attempts to connect that the call waited for.
        first: the first actions, if they came ahead.
    """

    bytes: bytes
    round_trip_s: float
    bytes_up: int
    connect_attempts: int
    first: FirstArrival | None = None


class AsyncFlashTransportPolicy:
    """A policy behind a QUIC server of openpi-flash, for asyncio.

    Any number of tasks may share one; their requests go side by side, each on a stream of its own.
    A lost connection costs the requests it carried: the next one connects again. When a request is
    given up, by its timeout or by cancelling its task, the server is told and drops the work.

    Args:
        host: name or address of the server, with or without its port (`gpu`, `10.0.0.5:5555`,
            `[::1]:5555`).
        port: UDP port of the server; None: the one in `host`, else 5555.
        api_key: one of the server's `api_keys`, where it has some; printable ASCII.
        server_fingerprint: SHA-256 of the server's certificate, 64 hex digits. Without it and
            without the next two the connection is encrypted, but the server is not authenticated.
        ca_file: PEM file of certificate authorities; one of them must have signed the server's
            certificate for `host`.
        known_servers: file of known servers; a new server is added to it.
        session: name under which the server keeps this client's requests apart from others', also
            after a reconnection: at most 128 characters; None: a random one.
        connect_timeout: seconds to wait for a server that is not there or not ready.

    Raises:
        ValueError: an argument is malformed.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        api_key: str | None = None,
        server_fingerprint: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        known_servers: str | os.PathLike[str] | None = None,
        session: str | None = None,
        connect_timeout: float = 10.0,
    ) -> None:
        within = seconds("connect_timeout", connect_timeout)
        if within is None:
            raise ValueError("connect_timeout must have an end")
        self.session = secrets.token_hex(8) if session is None else checked_session(session)
        self._connect_timeout = within
        name, number = parse_address(host, port).with_default(DEFAULT_PORT)
        self._server = Server(
            host=name,
            port=number,
            trust=Trust.of(server_fingerprint, ca_file, known_servers),
            hello=hello_of(
                client="flash_transport.aio",
                version=flash_transport.__version__,
                api_key=checked_api_key(api_key),
                session=self.session,
            ),
        )
        self._link: Link | None = None
        self._hello_answer = b"\x00\x80"
        self._takes_deadlines = False
        self._gives_first_actions = False
        self._connecting: asyncio.Task[Link] | None = None
        self._waiting = 0
        self._attempts = 0
        self._failure = AttemptFailed("the server is silent")
        self._lines: Lines[Turn] = Lines()
        self._is_closed = False

    @property
    def server(self) -> str:
        """The server as the user named it."""
        return str(self._server)

    async def connect(self) -> None:
        """Connects now instead of at the first request.

        Raises:
            Disconnected: no connection within `connect_timeout`, or a server of another protocol.
            ServerError: `not_ready`: the server is there, and still not ready.
            AuthenticationFailed: the server wants another `api_key`.
            UntrustedServer: the server is not the one that is trusted.
        """
        await self._live_link(self._now(), self._connect_timeout)

    async def infer(
        self,
        observation: dict[str, Any],
        timeout: float | None = None,
        *,
        first_actions: int | None = None,
        on_first_actions: OnFirst | None = None,
    ) -> dict[str, Any]:
        """Sends an observation and waits for the policy's answer.

        Args:
            observation: cameras, joints and prompt under the keys that the policy expects.
            timeout: seconds for everything, connecting included.
            first_actions: so many steps of the chunk are wanted as soon as they are final.
            on_first_actions: called with them, `actions` [first_actions, D], in the event loop,
                once, before this returns: taken from the whole answer if they did not come ahead.
                What it raises, this raises. Without an answer it may never be called.

        Returns:
            The answer; its arrays are read-only views on the received bytes.

        Raises:
            Timeout: the answer did not come in time, and will not come later.
            Disconnected: the connection was lost, or could not be made again in time.
            ServerError: the server could not answer this request.
            Superseded: a newer observation took this one's place.
            CodecError: the observation cannot be packed, or the answer is not valid.
            ValueError: `first_actions` is no whole number from 1 up, or given without
                `on_first_actions` or the other way round.
        """
        within = seconds("timeout", timeout)
        if (first_actions is None) != (on_first_actions is None):
            raise ValueError("first_actions and on_first_actions belong together")
        if first_actions is None or on_first_actions is None:
            answer = await self.ask(self.message(observation, within), within)
            return read_answer(answer.bytes, self.server)
        steps = checked_steps(first_actions)
        message = self.message(observation, within, steps)
        answer = await self.ask(message, within, on_first=on_first_actions)
        result = read_answer(answer.bytes, self.server)
        if answer.first is None:
            on_first_actions(first_actions_of(result, steps))
        return result

    async def reset(self) -> None:
        """Starts a new episode.

        Raises:
            What `infer` raises.
        """
        answer = await self.ask(Message.of(Kind.RESET, {}), RESET_S)
        read_answer(answer.bytes, self.server)

    def get_server_metadata(self) -> dict[str, Any]:
        """The server's metadata, from when the connection was made."""
        return read_answer(self._hello_answer, self.server)

    async def close(self) -> None:
        """Closes the connection. The requests of other tasks end in Disconnected."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.hang_up("this client is closed")
        # tasks that wait learn of it before this returns
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
        return f"<AsyncFlashTransportPolicy {self.server}{', closed' * self._is_closed}>"

    def message(
        self, observation: dict[str, Any], within: float | None, first_steps: int | None = None
    ) -> Message:
        """The packed observation, with room for its deadline if the server reads that.

        It asks for `first_steps` steps ahead, where the server may send them.

        Raises:
            CodecError: the observation cannot be packed.
        """
        with_deadline = within is not None and self._takes_deadlines
        steps = first_steps if self._gives_first_actions else None
        return Message.of(Kind.INFER, observation, with_deadline=with_deadline, first_steps=steps)

    async def ask(
        self,
        message: Message,
        within: float | None,
        turn: Turn | None = None,
        on_first: OnFirst | None = None,
    ) -> Answer:
        """Sends a request: connects first if necessary, repeats it if the server is not ready.

        `on_first` takes first actions that come ahead.
        """
        try:
            return await self._carry(message, self._now(), within, turn, on_first)
        except LostInExchange as error:
            if self._is_closed:
                raise self.closed_error() from None
            raise Disconnected(
                f"connection to {self.server} was lost before the answer came: {error}; "
                "the next request connects again"
            ) from None
        except AnswerTooLarge:
            raise CodecError(
                f"answer of {self.server} is larger than {ANSWER_BYTES} bytes"
            ) from None

    async def ask_in_turn(
        self,
        message: Message,
        within: float | None,
        session: str,
        on_first: OnFirst | None = None,
    ) -> Answer:
        """As `ask`; supersedes older requests of the session by the rule of `Lines`."""
        for older in self._lines.requests(session, Progress.IS_SENT):
            older.note_arrival()
        turn = Turn(self._lines, session)
        for older in self._lines.enter(session, turn):
            older.supersede()
        try:
            return await self.ask(message, within, turn, on_first)
        except asyncio.CancelledError:
            if not turn.is_superseded:
                raise
            raise superseded() from None
        finally:
            self._lines.leave(session, turn)

    def closed_error(self) -> Disconnected:
        """The error of a closed client."""
        return Disconnected(f"this client of {self.server} is closed")

    async def _carry(
        self,
        message: Message,
        asked: float,
        within: float | None,
        turn: Turn | None,
        on_first: OnFirst | None,
    ) -> Answer:
        longest = self._connect_timeout if within is None else within
        connect_within = min(longest, self._connect_timeout)
        delays, attempts = _backoff(), 0
        refused: ServerError | None = None
        arrived: FirstArrival | None = None

        def take_first(first: bytes) -> None:
            nonlocal arrived
            assert message.first_steps is not None
            part = read_first(first, message.first_steps, self.server)
            arrived = FirstArrival(self._now() - asked, len(first))
            if on_first is not None:
                on_first(part)

        while True:
            link, waited_for = await self._live_link(asked, connect_within)
            attempts += waited_for
            left = None if within is None else asked + within - self._now()
            request = message.bytes(left)

            def started(stream: int, link: Link = link) -> None:
                if turn is not None:
                    turn.is_sent(link, stream)

            take = None if message.first_steps is None else take_first
            exchange = link.exchange(request, ANSWER_BYTES, started, take)
            try:
                data = await asyncio.wait_for(exchange, left)
            except asyncio.TimeoutError:
                # while being repeated: the server's reason for `not_ready` tells the user more
                late = Timeout(f"no answer from {self.server} within {within:g} s")
                raise (None if arrived else refused) or late from None
            except EndedBefore as ended:
                if arrived is not None:
                    raise LostInExchange(str(ended)) from None
                # the connection ended before this request was begun
                if turn is not None:
                    turn.waits()
                await asyncio.sleep(0)
                continue
            failure = failure_of(data, self.server)
            if not (isinstance(failure, ServerError) and failure.code == "not_ready"):
                return Answer(data, self._now() - asked, len(request), attempts, arrived)
            if arrived is not None:
                # it was begun
                raise failure
            refused = failure
            # The server has not begun it, so it may be sent again. A server that shuts down
            # answers the same, and closes the connection at once.
            if turn is not None:
                turn.waits()
            delay = next(delays)
            is_late = self._now() + delay >= asked + longest
            if is_late or await _happens(link.over, delay):
                raise failure

    async def _live_link(self, asked: float, within: float) -> tuple[Link, int]:
        """A connection, and the number of attempts waited for."""
        before = self._attempts
        self._waiting += 1
        try:
            while not self._is_closed:
                if self._link is not None and self._link.is_up:
                    return self._link, self._attempts - before
                # An attempt continues when its request has timed out, so that a control
                # loop of short timeouts gets a connection, too.
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
        if self._failure.not_ready is not None:
            raise self._failure.not_ready
        raise Disconnected(
            f"cannot connect to {self.server} within {within:g} s: {self._failure}; check that "
            "the server runs, that host and port are right, and that UDP port "
            f"{self._server.port} is open on the way"
        )

    def _attempt(self) -> asyncio.Task[Link]:
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.get_running_loop().create_task(self._keep_dialing())
            # fetched, or asyncio would report it if no request waits for the attempt
            self._connecting.add_done_callback(
                lambda task: None if task.cancelled() else task.exception()
            )
        return self._connecting

    async def _keep_dialing(self) -> Link:
        for delay in _backoff():
            self._attempts += 1
            try:
                link, self._hello_answer = await dial(self._server, self._connect_timeout)
            except AttemptFailed as failure:
                self._failure = failure
            else:
                self._link = link
                metadata = self.get_server_metadata()
                self._takes_deadlines = supports(metadata, DEADLINE_KEY)
                self._gives_first_actions = supports(metadata, FIRST_ACTIONS_KEY)
                return link
            await asyncio.sleep(delay)
            if not self._waiting:
                break
        raise self._failure

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def seconds(name: str, value: float | None) -> float | None:
    """A time to wait. None and infinity mean without limit.

    Raises:
        ValueError: negative, or not a number.
    """
    if value is None or value == math.inf:
        return None
    if math.isnan(value) or value < 0:
        raise ValueError(f"{name} must be a number of seconds from 0 up, got {value:g}")
    return float(value)


async def _happens(event: asyncio.Event, within: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), within)
    except asyncio.TimeoutError:
        return False
    return True


def _backoff() -> Iterator[float]:
    """Seconds between attempts, randomised so that robots do not reconnect all at once."""
    step = FIRST_DELAY_S
    while True:
        yield random.uniform(step / 2, step)
        step = min(2 * step, LONGEST_DELAY_S)
