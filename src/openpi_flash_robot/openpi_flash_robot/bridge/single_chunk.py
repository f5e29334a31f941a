"""One chunk for who asks for it: inferred, checked for its shape, and not played."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic

from openpi_flash_robot.bridge.chunk_description import ChunkDescription
from openpi_flash_robot.bridge.effects import AnswerChunk, PublishChunk, SendRequest
from openpi_flash_robot.bridge.instruction import Instruction
from openpi_flash_robot.bridge.status import Cause, Condition
from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.link.answer import AnswerError, parse_answer
from openpi_flash_robot.link.events import RequestDone, RequestFailure
from openpi_flash_robot.play.chunk import Chunk, malformed
from openpi_flash_robot.senses.frames import Message
from openpi_flash_robot.senses.observation import Observation
from openpi_flash_robot.settings.server_contract import Agreement


@dataclass(frozen=True)
class ChunkWish:
    """What is asked for.

    Attributes:
        prompt: the instruction; empty is the robot's.
        timeout: seconds for the answer.
    """

    prompt: str
    timeout: float


@dataclass(frozen=True, eq=False)
class _Sent(Generic[Message]):
    request_id: int
    observation: Observation[Message]
    instruction: Instruction
    agreement: Agreement
    description: ChunkDescription


def why_not(stop: Hold | None, condition: Condition | None) -> str:
    """Why no chunk is inferred that another node may play; empty if one is.

    Args:
        stop: what keeps the robot from moving; None for nothing.
        condition: why the robot sends no requests of its own; None if it does.
    """
    if stop is not None and stop.kind is HoldKind.EMERGENCY_STOP:
        return stop.message
    if condition is None:
        return "the robot plays chunks; pause it (~/pause), or take those on action_chunk"
    if condition.cause in (Cause.PAUSED, Cause.GOAL):
        return ""
    return f"{condition.state.name}: {condition.message}"


class SingleChunk(Generic[Message]):
    """At most one wish at a time; its requests count down from -1, to differ from all others.

    Attributes:
        wish: what is asked for and not yet sent; None for nothing.
    """

    def __init__(self) -> None:
        self.wish: ChunkWish | None = None
        self._sent: _Sent[Message] | None = None
        self._last_id = 0

    @property
    def is_sent(self) -> bool:
        """Whether its request is on the link."""
        return self._sent is not None

    def refusal(self, stop: Hold | None, condition: Condition | None) -> str:
        """Why nobody may ask now; empty if one may. The arguments are those of `why_not`."""
        return "another chunk is being inferred" if self._is_busy else why_not(stop, condition)

    @property
    def _is_busy(self) -> bool:
        """Whether somebody waits for a chunk."""
        return self.wish is not None or self._sent is not None

    def send(
        self,
        observation: Observation[Message],
        instruction: Instruction,
        agreement: Agreement,
        description: ChunkDescription,
    ) -> SendRequest:
        """The request for the wish.

        Args:
            observation: of this moment, with the robot's instruction.
            instruction: the robot's.
            agreement: what the server and the robot have settled on.
            description: of its chunks.
        """
        assert self.wish is not None, "nobody has asked"
        prompt, timeout = self.wish.prompt, self.wish.timeout
        if prompt and prompt != instruction.text:
            instruction = Instruction(prompt, version=0, episode=instruction.episode)
        observation = replace(observation, prompt=instruction.text)
        self._last_id -= 1
        self.wish = None
        self._sent = _Sent(self._last_id, observation, instruction, agreement, description)
        return SendRequest(self._last_id, observation, agreement, timeout)

    def take(self, now: int, event: RequestDone | RequestFailure) -> AnswerChunk | None:
        """The chunk, or why there is none; None if the event is of another request."""
        sent = self._sent
        if sent is None or event.request_id != sent.request_id:
            return None
        self._sent = None
        if isinstance(event, RequestFailure):
            return AnswerChunk(None, event.message)
        try:
            actions = parse_answer(event.result, sent.agreement).actions
        except AnswerError as error:
            return AnswerChunk(None, str(error))
        step_ns = sent.agreement.step_ns
        problem = malformed(
            Chunk(actions, step_ns, sent.observation.oldest_ns, sequence=0),
            sent.description.names,
        )
        if problem is not None:
            return AnswerChunk(None, problem.message)
        chunk = PublishChunk(
            start_ns=now,
            observation_ns=sent.observation.oldest_ns,
            step_ns=step_ns,
            sequence=0,
            first_step=0,
            actions=actions,
            instruction=sent.instruction,
            description=sent.description,
        )
        return AnswerChunk(chunk, "")

    def give_up(self, message: str) -> list[AnswerChunk]:
        """Answer who waits, if anybody does, that there will be no chunk."""
        if not self._is_busy:
            return []
        self.wish = self._sent = None
        return [AnswerChunk(None, message)]
