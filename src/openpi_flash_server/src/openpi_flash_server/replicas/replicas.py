"""The replicas of one policy at work: gives the pool the time, and does what it decides."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextvars import ContextVar

from openpi_flash_models.policy.policy_protocol import BatchRequest
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.replicas.engine import (
    Answers,
    Description,
    Engine,
    LoadFailed,
    Replica,
    ReplicaLost,
)
from openpi_flash_server.replicas.pool import (
    Action,
    Call,
    Counts,
    Fail,
    Give,
    Kill,
    ReplicaPool,
    Reset,
    Start,
    Stop,
)
from openpi_flash_server.slot.alarm import Alarm
from openpi_flash_server.slot.answer import ErrorCode, Failure, RequestFailed

log = EventLogger(__name__)

Turns = queue.SimpleQueue[int | Failure]
"""The replicas that a call is given to, one after the other, or why it failed."""


class Replicas:
    """The replicas of one policy; may be used from any thread.

    Args:
        engine: starts them.
        count: how many.
        in_flight: calls that a replica may have: one runs, the others wait in its process.
        longest_call: s that a call may run before its replica is killed; infinite for ever.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        engine: Engine,
        count: int,
        *,
        in_flight: int = 1,
        longest_call: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._pool = ReplicaPool(in_flight=in_flight, longest_call=longest_call)
        self._processes: dict[int, Replica] = {}
        self._turns: dict[Call, Turns] = {}
        self._first: Future[Description] = Future()
        self._changed: Callable[[], None] = _nothing
        self._is_closed = False
        # guards everything above; held for moments, never while a process is waited for
        self._lock = threading.RLock()
        self._alarm = Alarm("replicas", self._lock, clock=clock, act=self._look, died=_nothing)
        self._alarm.start()
        self._do(lambda: self._pool.resize(count, clock()))

    def describe(self) -> Description:
        """What the policy is; blocks until the first replica is loaded and warm.

        Raises:
            LoadFailed: the first replica to end its loading could not load the policy.
            ReplicaLost: its process has ended.
        """
        return self._first.result()

    @property
    def counts(self) -> Counts:
        """How many replicas there are, by what they are doing."""
        with self._lock:
            return self._pool.counts

    @property
    def places(self) -> int:
        """How many calls may be under way at once, those that are included."""
        with self._lock:
            return self._pool.places

    @property
    def free_places(self) -> int:
        """How many more calls can be begun now."""
        with self._lock:
            return self._pool.free

    @property
    def refusal(self) -> str | None:
        """Why no call can be run now; None if one can."""
        with self._lock:
            return self._pool.refusal

    def attach(self, changed: Callable[[], None]) -> None:
        """Calls `changed`, without a lock, when replicas come or go."""
        self._changed = changed

    def can_begin(self, session: Hashable) -> bool:
        """Whether a call with a request of `session` would run on a replica that has room."""
        with self._lock:
            return self._pool.can_begin(session)

    def home(self, session: Hashable) -> int | None:
        """The replica that holds the state of the session; None: any may run its requests."""
        with self._lock:
            return self._pool.home(session)

    def resize(self, count: int) -> None:
        """Keeps so many replicas from now on; those that leave run what they were given."""
        log.info("replicas resized", count=count)
        self._do(lambda: self._pool.resize(count, self._clock()))
        self._changed()

    def begin(self, sessions: Sequence[Hashable], deadline: float = math.inf) -> Call:
        """Takes a place for a call, which `running` then uses.

        Args:
            sessions: whose requests it has.
            deadline: when their answers are of no more use, monotonic s; infinite for never.
        """
        call = Call(tuple(sessions), deadline)
        with self._lock:
            self._turns[call] = queue.SimpleQueue()
            if self._is_closed:
                self._turns[call].put(_ENDED)
            self._do(lambda: self._pool.begin(call, self._clock()))
        return call

    @contextlib.contextmanager
    def running(self, call: Call) -> Iterator[None]:
        """The context in which this thread may call `infer`, once; then the place is free."""
        token = _CURRENT.set(call)
        try:
            yield
        finally:
            _CURRENT.reset(token)
            with self._lock:
                del self._turns[call]
                # without effect if the call was answered
                self._do(lambda: self._pool.given_up(call, self._clock()))

    def infer(self, requests: Sequence[BatchRequest]) -> Answers:
        """Has the current call's replica answer `requests`, or another if it is lost; blocks.

        Raises:
            RequestFailed: no replica has answered; says why.
        """
        call = _CURRENT.get()
        with self._lock:
            turns = self._turns[call]
        while True:
            turn = turns.get()
            if isinstance(turn, Failure):
                raise RequestFailed(turn)
            with self._lock:
                replica = self._processes.get(turn)
            # one that is gone already: the next turn says what becomes of the call
            if replica is None:
                continue
            try:
                answers = replica.call(requests)
            except ReplicaLost as why:
                self._is_lost(turn, why)
                continue
            self._do(lambda: self._pool.answered(call, self._clock()))
            turns.put(_SECOND_TIME)
            return answers

    def reset(self, session: Hashable) -> None:
        """Drops the session's state after its calls that were begun."""
        self._do(lambda: self._pool.reset(session))

    def session_ended(self, session: Hashable) -> None:
        """Nobody uses the session any more."""
        with self._lock:
            self._pool.session_ended(session)

    def close(self) -> None:
        """Ends every replica; calls that are under way fail."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._alarm.close()
            processes, self._processes = list(self._processes.values()), {}
            for turns in self._turns.values():
                turns.put(_ENDED)
            if not self._first.done():
                self._first.set_exception(ReplicaLost(_ENDED.message))
        for process in processes:
            process.kill()
        self._engine.close()

    def _is_ready(self, number: int, description: Description) -> None:
        with self._lock:
            if number not in self._processes:
                return
            if not self._first.done():
                self._pool.keeps_state = description.keeps_state
                self._first.set_result(description)
            unlike = _difference(self._first.result(), description)
        if unlike:
            self._is_lost(number, ReplicaLost(unlike))
            return
        log.info("replica ready", replica=number)
        self._do(lambda: self._pool.is_ready(number, self._clock()))
        self._changed()

    def _is_lost(self, number: int, why: ReplicaLost) -> None:
        with self._lock:
            process = self._processes.pop(number, None)
            # it has been said already, or it was stopped or killed
            if process is None:
                return
            if not self._first.done():
                self._first.set_exception(why)
        cause = why.cause if isinstance(why, LoadFailed) else None
        log.error("replica lost", replica=number, reason=str(why), exception=cause)
        process.kill()
        self._do(lambda: self._pool.is_lost(number, str(why), self._clock()))
        self._changed()

    def _look(self) -> None:
        self._do(lambda: self._pool.look(self._clock()))
        self._changed()

    def _do(self, decide: Callable[[], Sequence[Action]]) -> None:
        """Asks the pool, and does what it says."""
        with self._lock:
            if self._is_closed:
                return
            actions = deque(decide())
            while actions:
                actions.extend(self._act(actions.popleft()))
            self._alarm.set(self._pool.next_look)

    def _act(self, action: Action) -> Sequence[Action]:
        """Does it; returns what follows at once."""
        match action:
            case Start(replica):
                return self._start(replica)
            case Give(replica, call):
                self._turns[call].put(replica)
            case Fail(call, reason, is_late):
                code = ErrorCode.DEADLINE_EXCEEDED if is_late else ErrorCode.INTERNAL
                self._turns[call].put(Failure(code, reason))
            case Reset(replica):
                if replica in self._processes:
                    self._processes[replica].reset()
            case Stop(replica):
                log.info("replica stopped", replica=replica)
                if replica in self._processes:
                    self._processes.pop(replica).stop()
            case Kill(replica):
                log.error("replica killed", replica=replica, reason="the model does not answer")
                if replica in self._processes:
                    self._processes.pop(replica).kill()
        return ()

    def _start(self, number: int) -> Sequence[Action]:
        try:
            self._processes[number] = self._engine.start(
                lambda description: self._is_ready(number, description),
                lambda why: self._is_lost(number, why),
            )
        # whatever a cluster does that is gone: the next try may find it again
        except Exception as error:
            log.error("replica not started", replica=number, exception=error)
            return self._pool.is_lost(number, f"it cannot be started: {error}", self._clock())
        return ()


def _difference(first: Description, other: Description) -> str:
    """Why the other cannot answer beside the first; empty if it can."""
    for name in ("checkpoint", "robot", "action_dim", "action_horizon", "action_names"):
        one, another = getattr(first.spec, name), getattr(other.spec, name)
        if one != another:
            return f"its {name} is {another}, expected {one} as of the first replica"
    return ""


def _nothing(*_: object) -> None:
    pass


_CURRENT: ContextVar[Call] = ContextVar("the call that this thread runs")
_SECOND_TIME = Failure(ErrorCode.INTERNAL, "a call asked its replica twice")
_ENDED = Failure(ErrorCode.INTERNAL, "the replicas were ended")
