"""Requests that hold a batch of observations: each array has one more axis in front.

A simulator that steps many environments at once sends them in one request. It is answered as that
many requests would be, and robots come between its parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openpi_flash_models.errors import ObservationError
from openpi_flash_server.logs.outside_text import described
from openpi_flash_server.slot.answer import Answer, Failure, Reply
from openpi_flash_server.slot.encoded_images import MARK
from openpi_flash_server.slot.work import FIRST_ACTIONS, Work, parse_message

KEY = "batch"
"""The number of observations."""

MAX_OBSERVATIONS = 512
"""More do not run faster: a request runs in pieces of a few observations."""


def parse_works(
    message: Any, *, session: str, received_at: float = 0.0
) -> tuple[tuple[Work, ...], bool]:
    """The works of a decoded message, and whether it holds a batch; see `parse_message`.

    Raises:
        ObservationError: names the key, what it holds and what it should hold.
    """
    if not isinstance(message, Mapping) or message.get(KEY) is None:
        return (parse_message(message, session=session, received_at=received_at),), False
    size = message[KEY]
    if isinstance(size, np.generic):
        size = size.item()
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_OBSERVATIONS:
        raise ObservationError(
            KEY, f"expected a whole number from 1 to {MAX_OBSERVATIONS}, got {described(size)}"
        )
    whole = {key: value for key, value in message.items() if key in _OF_THE_REQUEST}
    parts = {
        key: _split(value, size, str(key))
        for key, value in message.items()
        if key not in _OF_THE_REQUEST and key not in _WITHOUT_EFFECT
    }
    rows = ({key: part[row] for key, part in parts.items()} | whole for row in range(size))
    works = (
        parse_message(row, session=session, row=index, received_at=received_at)
        for index, row in enumerate(rows)
    )
    return tuple(works), True


def join_answers(answers: Sequence[Answer]) -> Answer:
    """One answer of those to every observation: arrays are stacked, the rest are lists.

    A request with an observation that failed has failed; the message names the first.
    """
    results = []
    for index, answer in enumerate(answers):
        if isinstance(answer, Failure):
            message = f"observation {index} of {len(answers)}: {answer.message}"
            return Failure(answer.code, message, answer.traceback, answer.cause)
        results.append(answer.result)
    keys = dict.fromkeys(key for result in results for key in result)
    return Reply({key: _join([result.get(key) for result in results]) for key in keys})


def _join(values: list[Any]) -> Any:
    shapes = {value.shape if isinstance(value, np.ndarray) else None for value in values}
    return np.stack(values) if len(shapes) == 1 and None not in shapes else values


def _split(value: Any, size: int, path: str) -> Sequence[Any]:
    """The value of each observation; one that is no array or list belongs to all."""
    if isinstance(value, np.ndarray) and value.ndim > 0:
        if value.shape[0] != size:
            raise ObservationError(
                path, f"expected [{size}, ...] for a batch of {size}, got {list(value.shape)}"
            )
        return list(value)
    if isinstance(value, list):
        if len(value) != size:
            raise ObservationError(
                path, f"expected {size} entries for a batch of {size}, got {len(value)}"
            )
        return value
    if isinstance(value, Mapping) and MARK not in value:
        parts = {key: _split(inner, size, f"{path}/{key}") for key, inner in value.items()}
        return [{key: part[row] for key, part in parts.items()} for row in range(size)]
    return [value] * size


_WITHOUT_EFFECT = (KEY, FIRST_ACTIONS)
_OF_THE_REQUEST = frozenset(
    {"mode", "session", "deadline_ms", "request_class", "observation_stamp"}
    | {"expected_artifact", "traceparent"}
)
