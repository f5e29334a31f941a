"""A policy in the process of a replica: what comes out of it can go to another process."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openpi_flash_models.policy.policy_protocol import (
    ActionPolicy,
    ActionResult,
    BatchPolicy,
    BatchRequest,
    StatefulPolicy,
)
from openpi_flash_server.replicas.engine import Answers, Description


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """The policy could not be loaded or warmed up.

    Attributes:
        cause: what its loader raised, or a `ForeignError` in its place.
    """

    cause: BaseException


class ForeignError(Exception):
    """An error of another process that cannot be pickled: its type and its text."""


class PolicyProcess:
    """Loads one policy and calls it, always on the same thread."""

    def __init__(self) -> None:
        self._policy: ActionPolicy | None = None

    def load(self, load: Callable[[], ActionPolicy]) -> Description | NotLoaded:
        """Loads the policy and warms it up."""
        try:
            policy = self._policy = load()
            policy.warm_up()
        except BaseException as error:
            return NotLoaded(portable(error))
        return Description(
            spec=policy.spec,
            max_batch=policy.max_batch if isinstance(policy, BatchPolicy) else 1,
            keeps_state=bool(getattr(policy, "keeps_state", isinstance(policy, StatefulPolicy))),
        )

    def infer(self, requests: Sequence[BatchRequest]) -> Answers:
        """Answers each request with a result or an error."""
        policy = self._policy
        assert policy is not None
        answers: list[ActionResult | BaseException]
        try:
            if len(requests) > 1 and isinstance(policy, BatchPolicy):
                answers = list(policy.infer_batch(requests))
            else:
                answers = [policy.infer(*request) for request in requests]
        except BaseException as error:
            answers = [error] * len(requests)
        return [portable(one) if isinstance(one, BaseException) else one for one in answers]

    def reset(self) -> None:
        """Starts a new episode."""
        policy = self._policy
        if policy is not None and isinstance(policy, StatefulPolicy):
            policy.reset()


def portable(error: BaseException) -> BaseException:
    """The error as it can be pickled, with its traceback as a note."""
    lines = "".join(traceback.format_exception(error)).rstrip()
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is not type(error) or str(copy) != str(error):
            raise TypeError
    # whatever its class does when it is pickled
    except Exception:
        copy = ForeignError(f"{type(error).__name__}: {error}")
    copy.add_note(f"In the process of the replica:\n{lines}")
    return copy
