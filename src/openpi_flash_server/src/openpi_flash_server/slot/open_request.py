"""A request that is not answered yet, and the answers to its observations that are there."""

from __future__ import annotations

from openpi_flash_server.slot.answer import Answer, Failure, Reply
from openpi_flash_server.slot.batch_request import join_answers
from openpi_flash_server.slot.events import Timing
from openpi_flash_server.slot.runner import Ran
from openpi_flash_server.slot.scheduler import Piece
from openpi_flash_server.slot.ticket import Ticket


class OpenRequest:
    """Gathers the answers to the observations of one request.

    Args:
        ticket: the request.
        number: its number in the slot.

    Attributes:
        sequence: number of the inference in the slot; 0 before it starts.
    """

    def __init__(self, ticket: Ticket, number: int) -> None:
        self.ticket = ticket
        self.number = number
        self.sequence = 0
        self._answers: list[Answer | None] = [None] * ticket.size
        self._waited_ms = 0.0
        self._decode_ms = ticket.decode_ms
        self._infer_ms = 0.0
        self._batch_size = 0
        self._first_ms: float | None = None

    def takes_first(self, now: float) -> bool:
        """Notes that first actions are there; returns whether its client is to get them."""
        if self.ticket.respond_first is None or self.ticket.is_batch or self._first_ms is not None:
            return False
        self._first_ms = (now - self.ticket.received_at) * 1000
        return True

    def take(self, piece: Piece[Ticket], ran: Ran, first: int) -> None:
        """Takes the answers to a piece.

        Args:
            piece: of this request.
            ran: the batch that it was part of.
            first: index of the piece's first observation in the batch.
        """
        among = slice(first, first + piece.count)
        if self._batch_size == 0:
            before_call = (ran.called_at - self.ticket.received_at) * 1000
            # images are decoded while it waits; parts of one request may be at the same time
            decoding = self.ticket.decode_ms + sum(ran.decode_ms[among])
            self._waited_ms = max(0.0, before_call - decoding)
        self._answers[piece.first : piece.first + piece.count] = ran.answers[among]
        self._decode_ms += sum(ran.decode_ms[among])
        self._infer_ms += ran.infer_ms
        self._batch_size = max(self._batch_size, len(ran.answers))

    @property
    def is_complete(self) -> bool:
        """Whether every observation is answered."""
        return None not in self._answers

    def timing(self) -> Timing:
        """How long it took."""
        return Timing(
            queue_ms=self._waited_ms,
            decode_ms=self._decode_ms,
            infer_ms=self._infer_ms,
            batch_size=self._batch_size,
            first_ms=self._first_ms,
        )

    def answer(self) -> Answer:
        """The answer to the whole request."""
        answers = [answer for answer in self._answers if answer is not None]
        answer = join_answers(answers) if self.ticket.is_batch else answers[0]
        if isinstance(answer, Failure):
            return answer
        result = dict(answer.result)
        timing = self.timing()
        result["server_timing"] = {
            "infer_ms": timing.infer_ms,
            "queue_ms": timing.queue_ms,
            "decode_ms": timing.decode_ms,
            "batch_size": timing.batch_size,
        }
        if timing.first_ms is not None:
            result["server_timing"]["first_actions_ms"] = timing.first_ms
        result["sequence"] = self.sequence
        if self.ticket.work.observation_stamp is not None:
            result["observation_stamp"] = self.ticket.work.observation_stamp
        return Reply(result)
