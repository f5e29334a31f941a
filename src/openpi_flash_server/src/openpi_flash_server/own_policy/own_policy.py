"""A user's object as a policy of the server: its answers are checked, its errors name it."""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np

from openpi_flash_models.actions.finite import refuse_not_finite
from openpi_flash_models.actions.rtc import RtcControls
from openpi_flash_models.errors import ModelOutputError, ObservationError
from openpi_flash_models.policy.policy_protocol import (
    DEFAULT_CONTROLS,
    ActionResult,
    BatchAnswer,
    BatchRequest,
    InferenceControls,
    PolicySpec,
)
from openpi_flash_models.text.task import KEY as PROMPT
from openpi_flash_models.text.task import requested_task
from openpi_flash_server.contract.example import example_observation
from openpi_flash_server.own_policy.description import spec_of
from openpi_flash_server.own_policy.errors import PolicyCallError, PolicyLoadError
from openpi_flash_server.slot.work import FIRST_ACTIONS

DEFAULT_MAX_BATCH = 8
"""Most observations of one call of `infer_batch`, where the object has no `max_batch`."""


class OwnPolicy:
    """Runs an object with openpi's `infer(observation) -> {"actions": [H, D], ...}`.

    It is called on one thread at a time. `reset()` of the object runs before the next call, on the
    same thread.

    Args:
        policy: has `infer`, `infer_batch` or `infer_stream`; may have `reset`, `metadata` and
            `max_batch`.
        name: for messages and clients.
        default_prompt: the task of requests that name none.

    Raises:
        PolicyLoadError: its `metadata` cannot be used.
    """

    def __init__(self, policy: Any, name: str, *, default_prompt: str | None = None) -> None:
        self._policy = policy
        self._name = name
        self._default_prompt = default_prompt
        self._spec = spec_of(getattr(policy, "metadata", None), name)
        self._stream = getattr(policy, "infer_stream", None)
        if callable(self._stream) and FIRST_ACTIONS not in self._spec.supports:
            supports = (*self._spec.supports, FIRST_ACTIONS)
            self._spec = dataclasses.replace(self._spec, supports=supports)
        self._reset_due = threading.Event()

    @property
    def spec(self) -> PolicySpec:
        """What it says of itself, and what its first answer said."""
        return self._spec

    @property
    def keeps_state(self) -> bool:
        """Whether the object has something to reset between episodes."""
        return callable(getattr(self._policy, "reset", None))

    def infer(
        self, observation: Mapping[str, Any], controls: InferenceControls = DEFAULT_CONTROLS
    ) -> ActionResult:
        """Answer one observation.

        Raises:
            ObservationError: what the object raised.
            PolicyCallError: names the object, and what it raised or answered.
        """
        self._reset_if_due()
        given = self._observation(observation, controls)
        started = time.perf_counter()
        infer = getattr(self._policy, "infer", None)
        if callable(infer):
            answer = self._call(infer, given)
        elif callable(getattr(self._policy, "infer_batch", None)):
            (answer,) = self._call_batch([given])
        else:
            (answer,) = collections.deque(self._parts(given), maxlen=1) or (None,)
        return self._result(answer, (time.perf_counter() - started) * 1000)

    def infer_with_first(
        self,
        observation: Mapping[str, Any],
        controls: InferenceControls,
        steps: int,
        first: Callable[[np.ndarray], None],
    ) -> ActionResult:
        """As `infer`, by the object's `infer_stream`, if it has one.

        `first` gets the first steps [steps, D] as soon as the object has yielded that many.

        Raises:
            ObservationError: what the object raised.
            PolicyCallError: names the object, and what it raised, yielded or changed later.
        """
        if not callable(self._stream):
            return self.infer(observation, controls)
        self._reset_if_due()
        given = self._observation(observation, controls)
        started = time.perf_counter()
        known: np.ndarray | None = None
        answer: Any = None
        parts = self._parts(given)
        try:
            for answer in parts:
                actions = self._actions(answer)
                self._check_size(actions, whole=False)
                if known is not None:
                    self._refuse_changed(known, actions)
                elif steps <= len(actions) != self._spec.action_horizon:
                    known = actions[:steps].copy()
                    first(known)
        finally:
            # what it keeps open, also when a part is refused
            parts.close()
        return self._result(answer, (time.perf_counter() - started) * 1000)

    def _parts(self, observation: dict[str, Any]) -> Generator[Any]:
        """What `infer_stream` yields; the last is the whole answer."""
        assert self._stream is not None
        stream = self._call(iter, self._call(self._stream, observation))
        try:
            while (part := self._call(next, stream, _END)) is not _END:
                yield part
        finally:
            close = getattr(stream, "close", None)
            if callable(close):
                self._call(close)

    def _refuse_changed(self, known: np.ndarray, actions: np.ndarray) -> None:
        steps = len(known)
        if not np.array_equal(actions[:steps], known):
            raise PolicyCallError(
                f"{self._name} changed its first {steps} steps after it had yielded them"
            )

    def warm_up(self) -> None:
        """Calls the object's `warm_up`, or else `infer` with zeros, if it says what it reads.

        Raises:
            PolicyLoadError: the object raised, or did not answer a chunk.
        """
        try:
            warm_up = getattr(self._policy, "warm_up", None)
            if callable(warm_up):
                self._call(warm_up)
            elif self._spec.inputs is not None:
                result = self.infer(example_observation(self._spec.inputs, "warm up"))
                horizon, width = result.actions.shape
                self._spec = dataclasses.replace(
                    self._spec, action_horizon=horizon, action_dim=width
                )
                self.reset()
        except (ModelOutputError, ObservationError) as error:
            raise PolicyLoadError(f"the warm-up failed: {error}") from error

    def reset(self) -> None:
        """Starts a new episode: the object's `reset` runs before its next call."""
        self._reset_due.set()

    def _reset_if_due(self) -> None:
        if not self._reset_due.is_set():
            return
        self._reset_due.clear()
        reset = getattr(self._policy, "reset", None)
        if callable(reset):
            self._call(reset)

    def _observation(
        self, observation: Mapping[str, Any], controls: InferenceControls
    ) -> dict[str, Any]:
        """What the object gets: the client's map, with the default task where it names none."""
        given = dict(observation)
        if self._default_prompt and requested_task(given) is None:
            given[PROMPT] = self._default_prompt
        for field in ("noise", "seed", "num_steps"):
            if (value := getattr(controls, field)) is not None:
                given[field] = value
        if controls.rtc is not None:
            given["rtc"] = _as_sent(controls.rtc)
        return given

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except ObservationError:
            raise
        except (Exception, SystemExit) as error:
            raise PolicyCallError(f"{self._name} raised {type(error).__name__}: {error}") from error

    def _call_batch(self, observations: list[dict[str, Any]]) -> list[Any]:
        answers = self._call(self._policy.infer_batch, observations)
        if not isinstance(answers, list | tuple) or len(answers) != len(observations):
            raise PolicyCallError(
                f"{self._name} answered {_described(answers)} to {len(observations)} "
                "observations, expected a list with one answer for each"
            )
        return list(answers)

    def _result(self, answer: Any, elapsed_ms: float, batch_size: int = 1) -> ActionResult:
        """The object's answer, checked."""
        actions = self._actions(answer)
        self._check_size(actions)
        timing = answer.get("policy_timing")
        said = timing.get("infer_ms") if isinstance(timing, Mapping) else None
        return ActionResult(
            actions=actions,
            infer_ms=float(said) if isinstance(said, int | float) else elapsed_ms,
            batch_size=batch_size,
            extra={key: value for key, value in answer.items() if key not in _OURS},
        )

    def _actions(self, answer: Any) -> np.ndarray:
        """The actions of an answer or of a part of it, float64, checked."""
        if not isinstance(answer, Mapping) or "actions" not in answer:
            raise PolicyCallError(
                f'{self._name} answered {_described(answer)}, expected {{"actions": [H, D]}}'
            )
        try:
            actions = np.asarray(answer["actions"])
        except (TypeError, ValueError) as error:
            raise PolicyCallError(
                f"{self._name} answered actions that are no array: {error}"
            ) from None
        if actions.dtype.kind not in "fiu" or actions.ndim != 2 or not actions.size:
            raise PolicyCallError(
                f"{self._name} answered actions {actions.dtype}{list(actions.shape)}, expected "
                "numbers [horizon, action_dim]"
            )
        try:
            refuse_not_finite(actions)
        except ModelOutputError as error:
            raise PolicyCallError(f"{self._name}: {error}") from None
        return actions.astype(np.float64)

    def _check_size(self, actions: np.ndarray, *, whole: bool = True) -> None:
        said = (self._spec.action_horizon if whole else 0, self._spec.action_dim)
        for key, expected, got in zip(_SIZES, said, actions.shape, strict=True):
            if expected and got != expected:
                raise PolicyCallError(
                    f"{self._name} answered actions {list(actions.shape)}, but its {key} is "
                    f"{expected}"
                )


class OwnBatchPolicy(OwnPolicy):
    """An object that also has `infer_batch(observations) -> answers`.

    An answer may be an exception: then only that request fails.
    """

    @property
    def max_batch(self) -> int:
        """Most observations of one call."""
        said = getattr(self._policy, "max_batch", DEFAULT_MAX_BATCH)
        return said if type(said) is int and said > 0 else DEFAULT_MAX_BATCH

    def infer_batch(self, requests: Sequence[BatchRequest]) -> list[BatchAnswer]:
        """Answer each request; an error of one request is the answer to that one only."""
        try:
            self._reset_if_due()
            started = time.perf_counter()
            answers = self._call_batch([self._observation(*request) for request in requests])
        except (ObservationError, ModelOutputError) as error:
            return [error] * len(requests)
        elapsed_ms = (time.perf_counter() - started) * 1000
        return [self._batch_answer(answer, elapsed_ms, len(requests)) for answer in answers]

    def _batch_answer(self, answer: Any, elapsed_ms: float, batch_size: int) -> BatchAnswer:
        if isinstance(answer, ObservationError):
            return answer
        if isinstance(answer, Exception):
            return PolicyCallError(f"{self._name} answered {type(answer).__name__}: {answer}")
        try:
            return self._result(answer, elapsed_ms, batch_size)
        except ModelOutputError as error:
            return error


def own_policy(policy: Any, name: str, *, default_prompt: str | None = None) -> OwnPolicy:
    """The object as a policy; one with `infer_batch` answers several requests in one call.

    Raises:
        PolicyLoadError: its `metadata` cannot be used.
    """
    has_batches = callable(getattr(policy, "infer_batch", None))
    kind = OwnBatchPolicy if has_batches else OwnPolicy
    return kind(policy, name, default_prompt=default_prompt)


def _as_sent(rtc: RtcControls) -> dict[str, Any]:
    sent: dict[str, Any] = {"previous_actions": rtc.previous_actions, "delay": rtc.delay}
    if rtc.execution_horizon is not None:
        sent["execution_horizon"] = rtc.execution_horizon
    return sent | ({"method": "prefix"} if rtc.is_prefix else {})


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a map with {', '.join(sorted(map(str, value))) or 'nothing'}"
    size = f" of {len(value)}" if isinstance(value, list | tuple) else ""
    return f"a {type(value).__name__}{size}"


_END = object()
"""What a stream does not yield."""
_SIZES = ("action_horizon", "action_dim")
_OURS = {
    *("actions", "policy_timing", "server_timing", "sequence", "observation_stamp"),
    "prompt_version",
}
"""Keys of an answer that the server sets itself."""
