"""A policy that runs on replicas, as handlers call it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from openpi_flash_models.errors import ModelOutputError, ObservationError
from openpi_flash_models.policy.policy_protocol import (
    DEFAULT_CONTROLS,
    ActionResult,
    BatchAnswer,
    BatchRequest,
    InferenceControls,
    PolicySpec,
)
from openpi_flash_server.replicas.replicas import Replicas
from openpi_flash_server.slot.work import FIRST_ACTIONS


class ReplicatedPolicy:
    """Has the replica of the current call answer.

    Args:
        replicas: of the policy; at least one is warm.

    Attributes:
        replicas: the same.
        spec: what the policy is. First actions are not sent ahead from another process.
        max_batch: how many requests one call answers.
    """

    def __init__(self, replicas: Replicas) -> None:
        self.replicas = replicas
        description = replicas.describe()
        spec = description.spec
        supports = tuple(key for key in spec.supports if key != FIRST_ACTIONS)
        self.spec: PolicySpec = dataclasses.replace(spec, supports=supports)
        self.max_batch = description.max_batch

    def infer(
        self, observation: Mapping[str, Any], controls: InferenceControls = DEFAULT_CONTROLS
    ) -> ActionResult:
        """Answers one observation.

        Raises:
            ObservationError: the caller's fault.
            RequestFailed: no replica has answered.
        """
        (answer,) = self.replicas.infer([(observation, controls)])
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def infer_batch(self, requests: Sequence[BatchRequest]) -> list[BatchAnswer]:
        """Answers each request; an error of one request is the answer to that one only."""
        answers: list[BatchAnswer] = []
        for answer in self.replicas.infer(requests):
            if not isinstance(answer, ActionResult | ObservationError | ModelOutputError):
                raise answer
            answers.append(answer)
        return answers

    def warm_up(self) -> None:
        """Nothing to warm: a replica is warm before it is ready."""

    def close(self) -> None:
        """Ends the replicas."""
        self.replicas.close()
