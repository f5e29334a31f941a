"""Copies the robots' requests to the shadow policy, and compares the two answers.

A request is copied when the robot has its answer, so that the copy costs the robot nothing: the
scheduler runs it in the gaps between the robots' requests, and a newer copy of a session replaces
one that waits. Nobody gets the copy's answer.

Beside a planner the copy carries the prompt that the robot's action followed, with its subtask: the
planner is not asked again.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.recording.comparison import ComparisonTally, Verdict, compare_answers
from openpi_flash_server.recording.records import ANSWER, Record, answer_map, topic_of
from openpi_flash_server.slot.answer import Answer, ErrorCode, Failure, Reply
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.events import Answered, Dropped, Event, Received, SessionEnded
from openpi_flash_server.slot.session import ShadowSession
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.slot.ticket import Ticket
from openpi_flash_server.slot.work import RequestClass, RequestMode, Work

log = EventLogger(__name__)

NAME = "shadow"
"""Of its records, beside those of the slots."""
MAX_WAITING = 64
"""Copies that wait to be submitted; an observation holds about a megabyte."""
_MAX_OPEN = 1024


@dataclass(frozen=True, slots=True)
class ShadowTotals:
    """What came of the copies since the start.

    Attributes:
        outcomes: how many were `equal`, `different`, `failed` and `not_run`.
        largest_difference: of two numbers of the actions.
    """

    outcomes: Mapping[str, int]
    largest_difference: float


@dataclass(frozen=True, slots=True)
class _Copy:
    request: int
    session: str
    work: Work
    answer: Answer


class Shadow:
    """The copies of one slot's requests.

    Args:
        slot: its handler is a `ShadowingHandler`.
        record: takes a record of each copy; None: nothing is recorded.
        prompt_of: the prompt that an action followed, from the request and the result, if that has
            a subtask; its None: the copy cannot get the same. None: there is no planner.
    """

    def __init__(
        self,
        slot: Slot,
        *,
        record: Callable[[Record], None] | None = None,
        prompt_of: Callable[[Work, Mapping[str, Any]], str | None] | None = None,
    ) -> None:
        self._slot = slot
        self._write = record
        self._prompt_of = prompt_of
        # requests that are not answered yet; the slot tells one event at a time
        self._open: OrderedDict[int, tuple[str, Work]] = OrderedDict()
        self._changed = threading.RLock()
        # since the last summary, and since the start
        self._tally = ComparisonTally()
        self._outcomes: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._largest = 0.0
        # copies to submit, and sessions that have ended; None ends the thread
        self._line: queue.Queue[_Copy | str | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._submit_all, name="shadow", daemon=True)
        self._thread.start()

    def listen(self, event: Event) -> None:
        """Takes an event of the slot."""
        match event:
            case Received(session=session, works=(work,)):
                is_robots = work.request_class is RequestClass.ROBOT
                if isinstance(session, str) and is_robots and work.mode in _WITH_ACTIONS:
                    self._open[event.request] = session, work
                    # a request always ends, but a mistake must not fill the memory
                    if len(self._open) > _MAX_OPEN:
                        self._open.popitem(last=False)
            case Answered(request=request, answer=Reply(result=result)):
                copied = self._open.pop(request, None)
                if copied is not None:
                    self._copy(request, *copied, result)
            case Answered(request=request) | Dropped(request=request):
                self._open.pop(request, None)
            case SessionEnded(session=session) if isinstance(session, str):
                self._put(session)

    def log_summary(self) -> None:
        """Logs what came of the comparisons since the last call, if there were any."""
        with self._changed:
            tally, self._tally = self._tally, ComparisonTally()
            outcomes, self._outcomes = self._outcomes, Counter()
        if outcomes:
            log.info(
                "shadow compared",
                slot=self._slot.name,
                compared=tally.count,
                **{outcome: outcomes[outcome] for outcome in _OUTCOMES},
                largest_difference=tally.largest,
            )

    @property
    def totals(self) -> ShadowTotals:
        """What came of the copies since the start."""
        with self._changed:
            outcomes = {outcome: self._totals[outcome] for outcome in _OUTCOMES}
            return ShadowTotals(outcomes, self._largest)

    def close(self, timeout: float) -> None:
        """Copies no more; those that wait are left out."""
        while True:
            try:
                self._line.put_nowait(None)
                break
            except queue.Full:
                self._take_one()
        self._thread.join(timeout)

    def _copy(self, request: int, session: str, work: Work, result: Mapping[str, Any]) -> None:
        # a transport adds to the map that it sends
        answered = {key: value for key, value in result.items() if key != "subtask"}
        if self._prompt_of is not None and "subtask" in result:
            # now: the prompts may be changed before the copy runs
            prompt = self._prompt_of(work, result)
            if prompt is None:
                self._count("not_run")
                return
            observation = {**work.observation, "prompt": prompt}
            work = dataclasses.replace(work, observation=observation, mode=RequestMode.ACTION_ONLY)
        self._put(_Copy(request, session, work, Reply(answered)))

    def _put(self, item: _Copy | str) -> None:
        """Puts into the line; the oldest makes room, for the newest observation is of interest."""
        while True:
            try:
                self._line.put_nowait(item)
                return
            except queue.Full:
                self._take_one()

    def _take_one(self) -> None:
        try:
            oldest = self._line.get_nowait()
        except queue.Empty:
            return
        if isinstance(oldest, _Copy):
            self._count("not_run")

    def _submit_all(self) -> None:
        # not from the listener, which must not call the slot
        while (item := self._line.get()) is not None:
            if isinstance(item, str):
                self._slot.client_left(_client_of(item))
            else:
                self._submit(item)
            # it must not stay until the next one comes
            del item

    def _submit(self, copy: _Copy) -> None:
        work = dataclasses.replace(
            copy.work,
            session=ShadowSession(copy.session),
            request_class=RequestClass.SHADOW,
            deadline_ms=None,
            expected_artifact=None,
            traceparent=None,
            first_actions=None,
        )
        self._slot.submit(
            Ticket(
                works=(work,),
                is_batch=False,
                client=_client_of(copy.session),
                received_at=self._slot.clock(),
                decode_ms=0.0,
                deadline=None,
                respond=lambda answer: self._compare(copy, answer),
                is_cancelled=lambda: False,
            )
        )

    def _compare(self, copy: _Copy, answer: Answer) -> None:
        if isinstance(answer, Failure) and answer.code in _NOT_RUN:
            self._count("not_run")
            return
        comparison = compare_answers(answer_map(copy.answer), answer_map(answer))
        if isinstance(answer, Failure):
            self._count("failed")
        else:
            with self._changed:
                self._tally.add(comparison)
                self._largest = max(self._largest, comparison.largest)
                self._count(str(comparison.verdict))
        if self._write is not None:
            columns = comparison.columns
            value = {
                "request": copy.request,
                "session": copy.session,
                **answer_map(answer),
                "comparison": {
                    "verdict": str(comparison.verdict),
                    "reason": comparison.reason,
                    "largest": comparison.largest,
                    "columns": [] if columns is None else columns.tolist(),
                },
            }
            self._write(Record(topic_of(NAME, ANSWER), self._slot.clock(), copy.request, value))

    def _count(self, outcome: str) -> None:
        with self._changed:
            self._outcomes[outcome] += 1
            self._totals[outcome] += 1


def _client_of(session: str) -> Client:
    """One client for each session, so that the copies' session ends with the robot's."""
    return Client(f"{NAME}#{session}", NAME)


_OUTCOMES = (str(Verdict.EQUAL), str(Verdict.DIFFERENT), "failed", "not_run")
_NOT_RUN = (ErrorCode.SUPERSEDED, ErrorCode.NOT_READY)
_WITH_ACTIONS = (RequestMode.DEFAULT, RequestMode.ACTION_ONLY)
