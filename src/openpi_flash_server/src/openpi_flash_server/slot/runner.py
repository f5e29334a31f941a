"""Where a slot's handler runs: what a slot needs of it, and how a batch is run there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from openpi_flash_server.slot.answer import Answer, Failure, Reply
from openpi_flash_server.slot.decoding import Decoded
from openpi_flash_server.slot.failures import failure_of
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.work import Work

Result = dict[str, Any] | Exception
"""The models' part of a reply, or why there is none."""


class Handler(Protocol):
    """Computes answers, one at a time."""

    def handle(self, work: Work) -> dict[str, Any]:
        """Computes the models' part of the reply.

        Raises:
            ObservationError: the caller's fault.
        """

    def reset(self, session: Session) -> None:
        """Drops the state of `session`."""


@runtime_checkable
class BatchHandler(Protocol):
    """A handler that computes several answers in one call."""

    @property
    def max_batch(self) -> int:
        """How many."""

    def batch_key(self, work: Work) -> Hashable:
        """Works with equal keys can share a call."""

    def handle_batch(self, works: Sequence[Work]) -> Sequence[Result]:
        """As `Handler.handle` for each work; an error of one is the result of that one only."""


@runtime_checkable
class FirstActionsHandler(Protocol):
    """A handler that may know the first actions of an answer before the rest."""

    def handle_with_first(
        self, work: Work, first: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """As `Handler.handle`; calls `first` at most once, with {"actions": [first_actions, D]}.

        For a work that wants first actions. They are final, and the answer begins with them.
        """


FirstActions = Callable[[int, dict[str, Any]], None]
"""Takes the first actions of a work, by its index in the batch, before the batch is done."""


def no_first_actions(index: int, first: dict[str, Any]) -> None:
    """Takes first actions that nobody waits for."""
    del index, first


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a batch.

    Attributes:
        answers: one for each work, in order.
        decode_ms: how long decoding the images of each took.
        called_at: when the handler was called, monotonic s.
        infer_ms: how long the handler took for the batch.
    """

    answers: tuple[Answer, ...]
    decode_ms: tuple[float, ...]
    called_at: float
    infer_ms: float


class Runner(Protocol):
    """Runs a handler: on a thread of its own, or on replicas in other processes."""

    @property
    def places(self) -> int:
        """How many batches may be under way at once."""

    @property
    def max_batch(self) -> int:
        """How many works a batch may have."""

    def batch_key(self, work: Work) -> Hashable:
        """Works with equal keys can share a batch."""

    def expect(self, works: Sequence[Work]) -> None:
        """Prepares for `works`, which will probably be started next, and for no others.

        It may decode their images while it is busy. Returns at once.
        """

    def start(
        self,
        works: Sequence[Work],
        done: Callable[[Ran], None],
        first: FirstActions = no_first_actions,
    ) -> None:
        """Begins to run a batch and returns; `done` is called once, later, on another thread.

        Before, `first` is called at most once for each work that wants first actions.
        """

    def reset(self, session: Session) -> None:
        """Drops the session's state, after the batches that were started before this call."""

    def close(self, timeout: float) -> bool:
        """Ends when every started batch has run; returns whether it did within `timeout` s."""


@runtime_checkable
class ReplicatedRunner(Protocol):
    """A runner whose places come and go, with the processes that it runs in."""

    @property
    def refusal(self) -> str | None:
        """Why it can run nothing now; None if it can."""

    def attach(self, changed: Callable[[], None]) -> None:
        """Calls `changed`, on any thread, when `places` or `refusal` may be others than before."""

    def can_start(self, session: Session) -> bool:
        """Whether there is a place for a work of `session`, where its state is."""

    def session_ended(self, session: Session) -> None:
        """Nobody uses the session any more."""


def max_batch_of(handler: Handler) -> int:
    """How many works `handler` can take in one call."""
    return handler.max_batch if isinstance(handler, BatchHandler) else 1


def batch_key_by(handler: Handler) -> Callable[[Work], Hashable]:
    """A function of works: those with equal keys can share a call of `handler`.

    Made once: to ask whether a handler takes batches takes as long as a small answer.
    """
    return handler.batch_key if isinstance(handler, BatchHandler) else _no_key


def _no_key(_: Work) -> None:
    return None


def run_batch(
    handler: Handler,
    works: Sequence[Work],
    decoded: Sequence[Decoded],
    clock: Callable[[], float],
    first: FirstActions = no_first_actions,
) -> Ran:
    """Runs the handler; every error becomes an answer.

    Args:
        handler: is not called for works whose images cannot be decoded.
        works: the batch.
        decoded: the observation of each.
        clock: monotonic seconds.
        first: takes the first actions of works that want them.
    """
    called_at = clock()
    answers: list[Answer | None] = [None] * len(works)
    ready: list[int] = []
    runnable: list[Work] = []
    for index, (work, images) in enumerate(zip(works, decoded, strict=True)):
        if isinstance(images.observation, Failure):
            answers[index] = images.observation
        else:
            ready.append(index)
            has_decoded = images.observation is not work.observation
            runnable.append(replace(work, observation=images.observation) if has_decoded else work)
    results = _results(handler, runnable, lambda place, part: first(ready[place], part))
    for index, result in zip(ready, results, strict=True):
        answers[index] = _answer(result)
    infer_ms = (clock() - called_at) * 1000
    decode_ms = tuple(images.ms for images in decoded)
    return Ran(tuple(answer for answer in answers if answer), decode_ms, called_at, infer_ms)


def _results(
    handler: Handler, works: Sequence[Work], first: FirstActions
) -> Sequence[Result | BaseException]:
    if len(works) > 1 and isinstance(handler, BatchHandler):
        try:
            results = handler.handle_batch(works)
            if len(results) != len(works):
                raise RuntimeError(f"{len(works)} works gave {len(results)} results")
            return results
        # a handler that calls sys.exit must not end its thread
        except BaseException as error:
            return [error] * len(works)
    return [
        _result(handler, work, functools.partial(first, index)) for index, work in enumerate(works)
    ]


def _result(
    handler: Handler, work: Work, first: Callable[[dict[str, Any]], None]
) -> Result | BaseException:
    try:
        if work.first_actions is not None and isinstance(handler, FirstActionsHandler):
            return handler.handle_with_first(work, first)
        return handler.handle(work)
    except BaseException as error:
        return error


def _answer(result: Result | BaseException) -> Reply | Failure:
    return failure_of(result) if isinstance(result, BaseException) else Reply(dict(result))
