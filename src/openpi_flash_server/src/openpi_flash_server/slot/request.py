"""Requests and their answers, as transports and slots exchange them.

A transport parses one message into a `Request` and hands it to a slot. The slot calls `respond`
once, from any thread, with a `Reply` or a `Failure`. Slots do not know the transport.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from openpi_flash_models.actions.rtc import RtcControls
from openpi_flash_models.errors import ObservationError
from openpi_flash_models.policy.policy_protocol import InferenceControls
from openpi_flash_server.logs.outside_text import described
from openpi_flash_server.slot.session import Session, session_name


class ErrorCode(enum.StrEnum):
    """The error codes on the wire; each says whose fault it is and whether to try again."""

    BAD_REQUEST = "bad_request"
    """The caller's: the same message will fail again."""
    UNAUTHENTICATED = "unauthenticated"
    """The caller's: no api key, or a wrong one."""
    SUPERSEDED = "superseded"
    """Nobody's: a newer observation of the same session took this one's place."""
    DEADLINE_EXCEEDED = "deadline_exceeded"
    """Nobody's: it waited longer than the request's `deadline_ms`."""
    NOT_READY = "not_ready"
    """The operator's: warming up, shutting down, or full. Try again later."""
    INTERNAL = "internal"
    """Ours: the server's log says more."""


class RequestMode(enum.StrEnum):
    """What a request asks of a server with a policy and a planner."""

    DEFAULT = "default"
    ACTION_ONLY = "action_only"
    SUBTASK_ONLY = "subtask_only"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: the map for the wire, without the values that only the transport knows."""

    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is an error.

    Attributes:
        code: for the client's program.
        message: for a person; names the cause.
        traceback: the server's, or empty; a transport sends it to openpi's own client only.
    """

    code: ErrorCode
    message: str
    traceback: str = ""


Answer = Reply | Failure


class RequestFailed(Exception):  # noqa: N818 - the fact that a request failed, carried up to the slot
    """A handler raises it to answer with a failure that it got from another slot.

    Attributes:
        failure: the answer.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        return f"{self.failure.code}: {self.failure.message}"


@dataclass(frozen=True, eq=False, slots=True)
class Request:
    """One observation to answer. Requests are compared by identity.

    Attributes:
        observation: the robot's part of the message, as the policy reads it.
        mode: what is asked for.
        controls: noise, seed, number of steps and previous chunk, if the client chose them.
        observation_stamp: copied into the reply; None if the client sent none.
        session: the client's session; at most one request of a session waits.
        received_at: when the last byte had come, monotonic s.
        decode_ms: how long decoding the message took.
        deadline: when waiting is no longer worth it, monotonic s; None for never.
        respond: takes the answer; called once, from any thread; must not block.
        is_cancelled: whether the client no longer waits for the answer.
    """

    observation: Mapping[str, Any]
    mode: RequestMode
    controls: InferenceControls
    observation_stamp: Any
    session: Session
    received_at: float
    decode_ms: float
    deadline: float | None
    respond: Callable[[Answer], None]
    is_cancelled: Callable[[], bool]


def parse_request(
    message: Any,
    *,
    session: str,
    received_at: float,
    decode_ms: float,
    respond: Callable[[Answer], None],
    is_cancelled: Callable[[], bool],
) -> Request:
    """Parses a decoded message: takes our optional keys out; the rest is the observation.

    Args:
        message: what the codec decoded.
        session: the transport's name for the client, used if the message names no session.
        received_at: when the last byte had come, monotonic s.
        decode_ms: how long decoding took.
        respond: see `Request`.
        is_cancelled: see `Request`.

    Raises:
        ObservationError: names the key, what it holds and what it should hold.
    """
    if not isinstance(message, Mapping):
        raise ObservationError("observation", f"expected a map, got {type(message).__name__}")
    observation = dict(message)
    chosen_session = observation.pop("session", None)
    deadline_ms = _positive_number(observation.pop("deadline_ms", None), "deadline_ms")
    return Request(
        mode=_mode(observation.pop("mode", None)),
        controls=InferenceControls(
            noise=_noise(observation.pop("noise", None)),
            seed=_whole_number(observation.pop("seed", None), "seed", minimum=0),
            num_steps=_whole_number(observation.pop("num_steps", None), "num_steps", minimum=1),
            rtc=_rtc(observation.pop("rtc", None)),
        ),
        observation_stamp=observation.pop("observation_stamp", None),
        session=session_name(session if chosen_session is None else chosen_session),
        received_at=received_at,
        decode_ms=decode_ms,
        deadline=None if deadline_ms is None else received_at + deadline_ms / 1000,
        respond=respond,
        is_cancelled=is_cancelled,
        observation=observation,
    )


def _mode(value: Any) -> RequestMode:
    if value is None or value == "":
        return RequestMode.DEFAULT
    if isinstance(value, str) and value in set(RequestMode):
        return RequestMode(value)
    raise ObservationError("mode", f"expected {', '.join(RequestMode)}, got {described(value)}")


def _positive_number(value: Any, key: str) -> float | None:
    number = _plain(value)
    if number is None:
        return None
    if isinstance(number, int | float) and not isinstance(number, bool):
        result = float(number)
        if math.isfinite(result) and result > 0:
            return result
    raise ObservationError(key, f"expected a number above 0, got {described(value)}")


def _whole_number(value: Any, key: str, *, minimum: int) -> int | None:
    number = _plain(value)
    if number is None:
        return None
    if isinstance(number, int) and not isinstance(number, bool) and number >= minimum:
        return number
    raise ObservationError(key, f"expected a whole number from {minimum}, got {described(value)}")


def _plain(value: Any) -> Any:
    """Converts numpy's scalars and 0-d arrays, which openpi's codec sends, to Python's numbers."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    return value


def _noise(value: Any) -> np.ndarray | None:
    if value is None:
        return None
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise ObservationError("noise", f"expected an array of numbers, got {described(value)}")
    if not np.isfinite(value).all():
        raise ObservationError("noise", "holds a value that is not finite")
    return value


def _rtc(value: Any) -> RtcControls | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ObservationError("rtc", f"expected a map, got {described(value)}")
    unknown = sorted(str(key) for key in value if key not in _RTC_KEYS)
    if unknown:
        known = ", ".join(_RTC_KEYS)
        raise ObservationError("rtc", f"no such key: {described(unknown[0])}, known are {known}")
    actions = value.get("previous_actions")
    if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "fiu" or actions.ndim != 2:
        raise ObservationError(
            "rtc/previous_actions", f"expected numbers [n, D], got {described(actions)}"
        )
    delay = _whole_number(value.get("delay"), "rtc/delay", minimum=0)
    if delay is None:
        raise ObservationError("rtc/delay", "missing: steps played before the chunk arrives")
    method = value.get("method")
    if method is not None and not (isinstance(method, str) and method == "prefix"):
        raise ObservationError("rtc/method", f"expected 'prefix' or none, got {described(method)}")
    executed = value.get("execution_horizon")
    return RtcControls(
        previous_actions=actions,
        delay=delay,
        execution_horizon=_whole_number(executed, "rtc/execution_horizon", minimum=0),
        is_prefix=method == "prefix",
    )


_RTC_KEYS = ("previous_actions", "delay", "execution_horizon", "method")
