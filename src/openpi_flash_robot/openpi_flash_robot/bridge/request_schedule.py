"""When to ask the policy: one request in flight, never twice with the same frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic

from openpi_flash_robot.bridge.instruction import NO_INSTRUCTION, Instruction
from openpi_flash_robot.bridge.turnaround import Turnaround
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.senses.frames import FrameSet, Message
from openpi_flash_robot.senses.observation import Observation

RETRY_NS = 250_000_000
"""Pause after a failed request, so that a server that refuses is not flooded."""


@dataclass(frozen=True, eq=False)
class PendingRequest(Generic[Message]):
    """A request on its way.

    Attributes:
        request_id: counts up.
        observation: what it was built from.
        sent_ns: when it left.
        is_wanted: false once its answer is of no use any more.
        instruction: what the robot was told when it left.
        first_sequence: of its chunk, where the first steps of that were played; else None.
    """

    request_id: int
    observation: Observation[Message]
    sent_ns: int
    is_wanted: bool = True
    instruction: Instruction = NO_INSTRUCTION
    first_sequence: int | None = None


class RequestSchedule(Generic[Message]):
    """Knows the request in flight and when the next one is due."""

    def __init__(self) -> None:
        self._in_flight: PendingRequest[Message] | None = None
        self._count = 0
        self._not_before_ns = 0
        self._is_urgent = False
        self._last_stamps: tuple[int, int] | None = None
        self._turnaround = Turnaround()

    def is_due(
        self,
        now: int,
        plan: Plan | None,
        execution_horizon: int,
        lead_ns: int = 0,
        takeover_ns: int | None = None,
    ) -> bool:
        """Whether the next observation should be taken.

        It is due so early that its answer takes over before the running plan ends, if the server
        takes as long as it did in the worst of its recent answers, and the next camera frames a
        step.

        Args:
            now: this moment.
            plan: the running plan, if any.
            execution_horizon: steps after a plan's observation at which the next one is due at the
                latest.
            lead_ns: from an answer to where its chunk takes over.
            takeover_ns: when the next chunk takes over, if not as soon as it has come; then its
                observation is taken as late as that allows.
        """
        if self._in_flight is not None:
            return False
        if self._is_urgent:
            return True
        if self._not_before_ns - now > RETRY_NS:  # the clock was set back
            self._not_before_ns = now
        due_ns = self._not_before_ns
        if plan is not None:
            ahead_ns = plan.step_ns + self._turnaround.expected_ns + lead_ns
            latest_ns = plan.end_ns - ahead_ns
            wanted_ns = plan.observation_ns + execution_horizon * plan.step_ns
            if takeover_ns is not None:
                wanted_ns = takeover_ns - ahead_ns
            due_ns = max(due_ns, min(wanted_ns, latest_ns))
        return now >= due_ns

    @property
    def is_in_flight(self) -> bool:
        """Whether a request is on its way, wanted or not."""
        return self._in_flight is not None

    def has_seen(self, frames: FrameSet[Message]) -> bool:
        """Whether the last request was sent with these very frames."""
        return (frames.oldest_ns, frames.newest_ns) == self._last_stamps

    @property
    def expected_ns(self) -> int:
        """How long an answer takes, by the worst of the recent ones; 0 before the first."""
        return self._turnaround.expected_ns

    def send(
        self,
        now: int,
        observation: Observation[Message],
        *,
        instruction: Instruction = NO_INSTRUCTION,
    ) -> PendingRequest[Message]:
        """Note that a request with this observation leaves now."""
        self._count += 1
        self._is_urgent = False
        self._last_stamps = (observation.frames.oldest_ns, observation.frames.newest_ns)
        self._in_flight = PendingRequest(self._count, observation, now, instruction=instruction)
        return self._in_flight

    def finish(
        self, now: int, request_id: int, *, is_answered: bool
    ) -> PendingRequest[Message] | None:
        """The request that has come to an end; None if nobody waits for it.

        Args:
            now: this moment.
            request_id: which one.
            is_answered: whether by an answer; only then the time that it took counts.
        """
        request = self._in_flight
        if request is None or request.request_id != request_id:
            return None
        self._in_flight = None
        if is_answered and now >= request.sent_ns:  # else the clock was set back
            self._turnaround.note(now - request.sent_ns)
        return request if request.is_wanted else None

    def wanted(self, request_id: int) -> PendingRequest[Message] | None:
        """The request in flight, if it is this one and its answer is of use."""
        request = self._in_flight
        is_it = request is not None and request.request_id == request_id and request.is_wanted
        return request if is_it else None

    def begin(self, sequence: int) -> None:
        """Note that the first steps of the chunk in flight are played under this number."""
        if self._in_flight is not None:
            self._in_flight = replace(self._in_flight, first_sequence=sequence)

    def forget(self) -> None:
        """Let the answer to the request in flight, if any, go by."""
        if self._in_flight is not None:
            self._in_flight = replace(self._in_flight, is_wanted=False)

    def lose(self) -> None:
        """The link has dropped the request in flight, if any."""
        self._in_flight = None

    def retry_later(self, now: int) -> None:
        """Wait before the next request, because the last one failed."""
        self._not_before_ns = now + RETRY_NS

    def ask_at_once(self) -> None:
        """Make the next request due as soon as none is in flight."""
        self._is_urgent = True
