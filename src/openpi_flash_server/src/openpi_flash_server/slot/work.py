"""The work of a request: plain data that can be recorded, replayed or sent to another process.

A transport decodes a message, `parse_message` takes our optional keys out of it, and the rest is
the observation. Encoded images stay encoded until the work is run.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from openpi_flash_models.actions.rtc import RtcControls
from openpi_flash_models.errors import ObservationError
from openpi_flash_models.policy.policy_protocol import InferenceControls
from openpi_flash_server.logs.outside_text import described
from openpi_flash_server.slot.session import Session, session_name

FIRST_ACTIONS = "first_actions"
"""The key of a request that wants the first steps of its chunk ahead of the rest."""


class RequestMode(enum.StrEnum):
    """What a request asks of a server with a policy and a planner."""

    DEFAULT = "default"
    ACTION_ONLY = "action_only"
    SUBTASK_ONLY = "subtask_only"


class RequestClass(enum.StrEnum):
    """How urgent a request is, the most urgent first."""

    ROBOT = "robot"
    """A robot moves by the answer."""
    SHADOW = "shadow"
    """A copy of a robot's request, to compare policies."""
    EVALUATION = "evaluation"
    """A simulator or a data set: nobody waits but a program."""

    @property
    def rank(self) -> int:
        """0 is the most urgent."""
        return _RANKS[self]


_RANKS = {request_class: rank for rank, request_class in enumerate(RequestClass)}


@dataclass(frozen=True, eq=False, slots=True)
class Work:
    """One observation to answer. Works are compared by identity.

    Attributes:
        observation: the robot's part of the message; images may be encoded.
        mode: what is asked for.
        controls: noise, seed, number of steps and previous chunk, if the client chose them.
        observation_stamp: copied into the reply; None if the client sent none.
        session: the client's session.
        request_class: how urgent it is.
        deadline_ms: how long the answer is of use, from receipt, or from the start for a runner;
            None for ever.
        expected_artifact: digest of the only checkpoint that may answer; None for any.
        traceparent: the client's span, as W3C's Trace Context writes it; None if it sent none.
        row: index of the observation in a request with a batch; 0 elsewhere.
        received_at: when its last byte had come, monotonic s; 0: the request's ticket knows.
        first_actions: so many steps are wanted as soon as they are final; None for none.
    """

    observation: Mapping[str, Any]
    mode: RequestMode
    controls: InferenceControls
    observation_stamp: Any
    session: Session
    request_class: RequestClass
    deadline_ms: float | None
    expected_artifact: str | None = None
    traceparent: str | None = None
    row: int = 0
    received_at: float = 0.0
    first_actions: int | None = None


def parse_message(message: Any, *, session: str, row: int = 0, received_at: float = 0.0) -> Work:
    """Parses a decoded message: takes our optional keys out; the rest is the observation.

    Args:
        message: what the codec decoded.
        session: the transport's name for the client, used if the message names no session.
        row: index of the observation in its request.
        received_at: when its last byte had come, monotonic s.

    Raises:
        ObservationError: names the key, what it holds and what it should hold.
    """
    if not isinstance(message, Mapping):
        raise ObservationError("observation", f"expected a map, got {type(message).__name__}")
    observation = dict(message)
    chosen_session = observation.pop("session", None)
    return Work(
        mode=_mode(observation.pop("mode", None)),
        controls=InferenceControls(
            noise=_noise(observation.pop("noise", None)),
            seed=_whole_number(observation.pop("seed", None), "seed", minimum=0),
            num_steps=_whole_number(observation.pop("num_steps", None), "num_steps", minimum=1),
            rtc=_rtc(observation.pop("rtc", None)),
        ),
        observation_stamp=observation.pop("observation_stamp", None),
        session=session_name(session if chosen_session is None else chosen_session),
        request_class=_request_class(observation.pop("request_class", None)),
        deadline_ms=_positive_number(observation.pop("deadline_ms", None), "deadline_ms"),
        expected_artifact=_artifact(observation.pop("expected_artifact", None)),
        traceparent=_traceparent(observation.pop("traceparent", None)),
        first_actions=_whole_number(observation.pop(FIRST_ACTIONS, None), FIRST_ACTIONS, minimum=1),
        observation=observation,
        row=row,
        received_at=received_at,
    )


def with_seed(work: Work, seed: int) -> Work:
    """The work with a seed, if its request chose neither a seed nor the noise."""
    controls = work.controls
    if controls.seed is not None or controls.noise is not None:
        return work
    return replace(work, controls=replace(controls, seed=seed))


def _mode(value: Any) -> RequestMode:
    if value is None or (isinstance(value, str) and not value):
        return RequestMode.DEFAULT
    if isinstance(value, str) and value in set(RequestMode):
        return RequestMode(value)
    raise ObservationError("mode", f"expected {', '.join(RequestMode)}, got {described(value)}")


def _request_class(value: Any) -> RequestClass:
    if value is None:
        return RequestClass.ROBOT
    if isinstance(value, str) and value in set(RequestClass):
        return RequestClass(value)
    known = ", ".join(RequestClass)
    raise ObservationError("request_class", f"expected {known}, got {described(value)}")


def _traceparent(value: Any) -> str | None:
    # Trace Context, section 4.3: a value that cannot be read is ignored
    return value if isinstance(value, str) and _TRACEPARENT.fullmatch(value) else None


def _artifact(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and _ARTIFACT.fullmatch(value)):
        return value
    raise ObservationError(
        "expected_artifact",
        "expected the digest in the metadata's checkpoint, sha256: and 64 digits, "
        f"got {described(value)}",
    )


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


_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_ARTIFACT = re.compile(r"sha256:[0-9a-f]{64}")
_RTC_KEYS = ("previous_actions", "delay", "execution_horizon", "method")
