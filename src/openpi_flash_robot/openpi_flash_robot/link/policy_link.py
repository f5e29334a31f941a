"""One worker thread that keeps a connection to the policy server, and one request on it.

Nothing here blocks the caller: `send` hands a job over, `events` takes what has happened since.
The thread connects, and connects again after every loss, with exponential backoff.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from openpi_flash_robot.link.events import (
    FailureKind,
    FirstActionsCame,
    LinkDown,
    LinkEvent,
    LinkUp,
    RequestCost,
    RequestDone,
    RequestFailure,
    ResetFailed,
    TransportUsed,
)
from openpi_flash_robot.link.transport import (
    Answered,
    Estimate,
    PolicyConnection,
    failure_kind,
    failure_message,
    needs_human,
    transport_in_use,
)

FIRST_DELAY_S = 0.1
CLOSE_TIMEOUT_S = 2.0
"""Longer than any policy takes to close; a thread inside a connection attempt is left behind."""


@dataclass(frozen=True, eq=False)
class BuiltRequest:
    """A request as it is sent.

    Attributes:
        content: what the server gets.
        jpeg_quality: of its images; 0: they are raw.
        image_news: why images are JPEG from now on, or raw again; else empty.
    """

    content: dict[str, Any]
    jpeg_quality: int = 0
    image_news: str = ""


@dataclass(frozen=True, eq=False)
class Job:
    """A request to build and send.

    Attributes:
        request_id: comes back in the event.
        build: puts the request together, at what is known of the link; runs on the worker thread.
        timeout: seconds for the answer.
        first_actions: steps that are wanted ahead of the rest; 0 for none.
    """

    request_id: int
    build: Callable[[Estimate], BuiltRequest]
    timeout: float
    first_actions: int = 0


def backoff(longest: float, seed: int | None = None) -> Iterator[float]:
    """Seconds between attempts: doubling, spread so that a fleet does not come back at once."""
    spread, delay = random.Random(seed), FIRST_DELAY_S
    while True:
        yield min(delay, longest) * spread.uniform(0.5, 1.0)
        delay = min(2 * delay, longest)


class PolicyLink:
    """Keeps one connection and at most one request, on a thread of its own."""

    def __init__(
        self,
        connect: Callable[[], PolicyConnection],
        *,
        wake: Callable[[], None],
        delays: Callable[[], Iterator[float]],
    ) -> None:
        """Prepare; `start` begins.

        Args:
            connect: makes a connection or raises; may block.
            wake: called on the worker thread after each event; must not block.
            delays: pauses between attempts to connect, from the first again after every loss.
        """
        self._connect = connect
        self._wake = wake
        self._delays = delays
        self._changed = threading.Condition()
        self._closing = False
        self._job: Job | None = None
        self._wants_reset = False
        self._wants_reconnect = False
        self._policy: PolicyConnection | None = None
        self._metadata_seen = ""
        self._transport_seen = ""
        self._events: deque[LinkEvent] = deque()
        self._thread = threading.Thread(target=self._run, name="policy_link", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def send(self, job: Job) -> None:
        """Hand over a request; its result comes as an event. One that waits is replaced."""
        with self._changed:
            self._job = job
            self._changed.notify()

    def reset(self) -> None:
        """Have the policy forget its state, after the request that is on its way."""
        with self._changed:
            self._wants_reset = True
            self._changed.notify()

    def reconnect(self) -> None:
        """Give up the connection and make a new one; a request that waits is dropped."""
        with self._changed:
            self._wants_reconnect = True
            self._changed.notify()

    def events(self) -> list[LinkEvent]:
        """The events since the last call, in order."""
        events = []
        while self._events:
            events.append(self._events.popleft())
        return events

    def close(self) -> None:
        """End the connection and the thread; a request on its way is given up."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            policy = self._policy
        if policy is not None:
            policy.close()
        if self._thread.is_alive():
            self._thread.join(CLOSE_TIMEOUT_S)

    # --- the worker thread ---

    def _run(self) -> None:
        while True:
            policy = self._connected()
            if policy is None:
                return
            try:
                self._serve(policy)
            finally:
                with self._changed:
                    self._policy = None
                policy.close()

    def _connected(self) -> PolicyConnection | None:
        """A new connection, after as many attempts as it takes; None when closing."""
        for delay in self._delays():
            try:
                policy = self._connect()
            except Exception as error:  # any error: the status must name it
                self._post(LinkDown(failure_message(error), needs_human(error)))
            else:
                with self._changed:
                    if not self._closing:
                        self._policy = policy
                        return policy
                policy.close()
            with self._changed:
                if self._changed.wait_for(lambda: self._closing, timeout=delay):
                    return None
        return None

    def _serve(self, policy: PolicyConnection) -> None:
        """Work on one connection until it is lost."""
        self._metadata_seen = ""
        with self._changed:
            self._job = None  # it was meant for the connection before
            self._wants_reset = self._wants_reconnect = False
        try:
            self._report_transport(policy)
            self._report_metadata(policy)
            while (task := self._next_task()) is not None:
                wants_reset, job = task
                if wants_reset:
                    self._reset(policy)
                if job is not None:
                    self._infer(policy, job)
        except _LinkLostError as lost:
            self._post(LinkDown(lost.message, lost.needs_human))

    def _has_task(self) -> bool:
        wants = self._closing or self._wants_reconnect or self._wants_reset
        return wants or self._job is not None

    def _next_task(self) -> tuple[bool, Job | None] | None:
        """Whether to reset, and the request to send; None when this connection is to end."""
        with self._changed:
            self._changed.wait_for(self._has_task)
            if self._closing or self._wants_reconnect:
                return None
            task = (self._wants_reset, self._job)
            self._wants_reset, self._job = False, None
            return task

    def _report_transport(self, policy: PolicyConnection) -> None:
        """Report the transport in use if it differs from the last reported."""
        name, reason = transport_in_use(policy)
        if name and name != self._transport_seen:
            is_change, self._transport_seen = bool(self._transport_seen), name
            self._post(TransportUsed(name, reason, is_change))

    def _report_metadata(self, policy: PolicyConnection) -> None:
        """Report the server's metadata if they differ from the last reported."""
        metadata = policy.get_server_metadata()
        seen = repr(metadata)
        if seen != self._metadata_seen:
            self._metadata_seen = seen
            self._post(LinkUp(metadata))

    def _reset(self, policy: PolicyConnection) -> None:
        try:
            policy.reset()
        except Exception as error:
            if failure_kind(error) is FailureKind.LINK:
                raise _LinkLostError(error) from error
            self._post(ResetFailed(failure_message(error)))

    def _infer(self, policy: PolicyConnection, job: Job) -> None:
        started = time.perf_counter()
        estimate = policy.link_estimate
        try:
            built = job.build(estimate)
        except Exception as error:
            self._post(RequestFailure(job.request_id, FailureKind.PREPARE, failure_message(error)))
            return
        prepared = time.perf_counter()
        try:
            if job.first_actions:
                answered = self._submit(policy, job, built.content)
            else:
                answered = policy.infer_with_stats(built.content, timeout=job.timeout)
            # flash_transport reconnects by itself, perhaps to a server with other metadata
            self._report_transport(policy)
            self._report_metadata(policy)
        except Exception as error:
            self._report_transport(policy)
            kind = failure_kind(error)
            self._post(RequestFailure(job.request_id, kind, failure_message(error)))
            if kind is FailureKind.LINK:
                raise _LinkLostError(error) from error
            return
        done = time.perf_counter()
        result, cost = answered[0], _cost(answered, built, estimate)
        self._post(RequestDone(job.request_id, result, prepared - started, done - started, cost))

    def _submit(self, policy: PolicyConnection, job: Job, request: dict[str, Any]) -> Answered:
        """The answer and what it cost; first actions that come before it are an event."""
        future = policy.submit(request, job.timeout, first_actions=job.first_actions)
        assert future.first_actions is not None, "asked for"
        first = future.first_actions.result()
        if not future.done():
            self._post(FirstActionsCame(job.request_id, first))
        result = future.result()
        assert future.stats is not None, "answered"
        return result, future.stats

    def _post(self, event: LinkEvent) -> None:
        with self._changed:
            if self._closing:
                return
        self._events.append(event)
        self._wake()


def _cost(answered: Answered, built: BuiltRequest, estimate: Estimate) -> RequestCost:
    _, stats = answered
    rate = None if estimate is None else estimate.bits_per_second
    return RequestCost(
        serialize_s=stats.serialize_ms / 1e3,
        bytes_up=stats.bytes_up,
        bytes_down=stats.bytes_down,
        jpeg_quality=built.jpeg_quality,
        link_rate=math.nan if rate is None else rate,
        link_queue=math.nan if estimate is None or rate is None else estimate.queue_s,
        image_news=built.image_news,
    )


class _LinkLostError(Exception):
    """The connection is lost."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.message = failure_message(error)
        self.needs_human = needs_human(error)
