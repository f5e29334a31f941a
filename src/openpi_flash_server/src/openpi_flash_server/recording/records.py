"""Requests and answers as plain maps, from the events of a slot and back. Pure.

A request is recorded as the message that would ask the same again, so that it can be sent again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from openpi_flash_server.slot.answer import Answer, Failure
from openpi_flash_server.slot.events import Answered, Dropped, Received
from openpi_flash_server.slot.session import Session
from openpi_flash_server.slot.work import RequestMode, Work

REQUEST, ANSWER, COMPARISON = "request", "answer", "comparison"
"""The last part of a record's topic."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message of a file.

    Attributes:
        topic: `/openpi/<slot>/<kind>`.
        at: monotonic s.
        sequence: number of the request.
        value: for the codec.
    """

    topic: str
    at: float
    sequence: int
    value: dict[str, Any]


def topic_of(slot: str, kind: str) -> str:
    """The topic of a slot's records of one kind."""
    return f"/openpi/{slot}/{kind}"


def parse_topic(topic: str) -> tuple[str, str] | None:
    """Slot and kind of a topic; None if it is not one of ours."""
    parts = topic.split("/")
    is_ours = len(parts) == _PARTS and parts[:2] == ["", "openpi"]
    return (parts[2], parts[3]) if is_ours else None


def request_record(slot: str, event: Received) -> Record:
    """The record of a request; without messages if it could not be read."""
    value = {
        "request": event.request,
        "session": name_of(event.session),
        "client": event.client.name,
        "messages": [message_of(work) for work in event.works],
    }
    return Record(topic_of(slot, REQUEST), event.at, event.request, value)


def answer_record(slot: str, event: Answered | Dropped) -> Record:
    """The record of an answer."""
    value: dict[str, Any] = {
        "request": event.request,
        "session": name_of(event.session),
        **answer_map(event.answer),
    }
    if isinstance(event, Answered) and event.timing is not None:
        timing = event.timing
        value["timing"] = {
            "queue_ms": timing.queue_ms,
            "decode_ms": timing.decode_ms,
            "infer_ms": timing.infer_ms,
            "batch_size": timing.batch_size,
        }
        if timing.first_ms is not None:
            value["timing"]["first_actions_ms"] = timing.first_ms
    return Record(topic_of(slot, ANSWER), event.at, event.request, value)


def answer_map(answer: Answer) -> dict[str, Any]:
    """`{result}` or `{error: {code, message}}`."""
    if isinstance(answer, Failure):
        return {"error": {"code": str(answer.code), "message": answer.message}}
    return {"result": answer.result}


def message_of(work: Work) -> dict[str, Any]:
    """The message that asks for this work; `parse_message` is the inverse.

    `first_actions` is left out: the whole answer is recorded, and is the same without.
    """
    controls, rtc = work.controls, work.controls.rtc
    chosen: dict[str, Any] = {
        "mode": None if work.mode is RequestMode.DEFAULT else str(work.mode),
        "seed": controls.seed,
        "noise": controls.noise,
        "num_steps": controls.num_steps,
        "observation_stamp": work.observation_stamp,
        "session": work.session if isinstance(work.session, str) else None,
        "request_class": str(work.request_class),
        "deadline_ms": work.deadline_ms,
        "expected_artifact": work.expected_artifact,
        "traceparent": work.traceparent,
    }
    if rtc is not None:
        parts = {
            "previous_actions": rtc.previous_actions,
            "delay": rtc.delay,
            "execution_horizon": rtc.execution_horizon,
            "method": "prefix" if rtc.is_prefix else None,
        }
        chosen["rtc"] = {key: part for key, part in parts.items() if part is not None}
    given = {key: value for key, value in chosen.items() if value is not None}
    return {**work.observation, **given}


def name_of(session: Session) -> str:
    """A session's name; a part of the server has one for people only."""
    return session if isinstance(session, str) else session.name


def size_of(value: Any) -> int:
    """About how many bytes a value holds."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes) + _OVERHEAD
    if isinstance(value, str | bytes | bytearray | memoryview):
        return len(value) + _OVERHEAD
    if isinstance(value, Mapping):
        return sum(size_of(inner) + _OVERHEAD for inner in value.values()) + _OVERHEAD
    if isinstance(value, list | tuple):
        return sum(size_of(inner) for inner in value) + _OVERHEAD
    return _OVERHEAD


_PARTS = 4
_OVERHEAD = 64
"""Bytes of a small object."""
