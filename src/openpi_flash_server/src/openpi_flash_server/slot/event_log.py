"""Writes to the log why a slot refused or failed requests, and a sample of those it answered.

Each reason, and one answered request of each session, is written once a minute; `times` counts.
"""

from __future__ import annotations

from collections.abc import Hashable

from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.outside_text import shown
from openpi_flash_server.logs.repeat_limit import RepeatLimit
from openpi_flash_server.slot.answer import ErrorCode, Failure
from openpi_flash_server.slot.events import (
    Answered,
    AnswerLost,
    CameBack,
    Dropped,
    Event,
    GivenUp,
    Timing,
)
from openpi_flash_server.slot.session import Session

log = EventLogger(__name__)


class EventLog:
    """A listener that writes the lines of one slot.

    Args:
        slot: its name.
    """

    def __init__(self, slot: str) -> None:
        self._slot = slot
        self._repeats = RepeatLimit()
        self._samples = RepeatLimit()

    def __call__(self, event: Event) -> None:
        """Writes the event, unless it is of no interest or was written already."""
        if isinstance(event, AnswerLost):
            key = ("respond", str(event.error)[:_LONGEST_KEY])
            if times := self._repeats.occurred(key, event.at):
                log.error(
                    "answer could not be sent", exception=event.error, **self._of(event, times)
                )
        elif isinstance(event, GivenUp):
            log.error("the model hangs", slot=self._slot, reason=event.reason)
        elif isinstance(event, CameBack):
            log.warning("the model answers again", slot=self._slot)
        elif isinstance(event, Answered | Dropped) and isinstance(event.answer, Failure):
            self._write_failure(event, event.answer)
        elif isinstance(event, Answered) and event.timing is not None:
            times = self._samples.occurred(event.session, event.at)
            if times:
                self._write_sample(event, event.timing, times)

    def _write_failure(self, event: Answered | Dropped, failure: Failure) -> None:
        if failure.code is ErrorCode.SUPERSEDED:
            return
        is_ours = failure.code is ErrorCode.INTERNAL
        # a robot repeats a wrong request at its frame rate
        key: Hashable = (failure.code, None if is_ours else event.session, failure.message)
        times = self._repeats.occurred(key, event.at)
        if not times:
            return
        if is_ours:
            log.error("request failed", exception=failure.cause, **self._of(event, times))
            return
        log.info(
            "request refused",
            code=failure.code,
            reason=failure.message,
            **self._of(event, times),
        )

    def _write_sample(self, event: Answered, timing: Timing, times: int) -> None:
        log.info(
            "request answered",
            **self._of(event, times),
            queue_ms=round(timing.queue_ms, 2),
            decode_ms=round(timing.decode_ms, 2),
            infer_ms=round(timing.infer_ms, 2),
            batch_size=timing.batch_size,
        )

    def _of(self, event: Answered | Dropped | AnswerLost, times: int) -> dict[str, object]:
        return {
            "slot": self._slot,
            "session": _named(event.session),
            "request": event.request,
            "times": times,
        }


def _named(session: Session) -> str:
    return shown(session if isinstance(session, str) else session.name)


_LONGEST_KEY = 100
"""Characters of an error's text by which repeats are recognised."""
