"""What starts the processes of replicas: what `replicas.py` needs of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from openpi_flash_models.policy.policy_protocol import ActionResult, BatchRequest, PolicySpec

Answers = Sequence[ActionResult | BaseException]
"""One for each request of a call."""


@dataclass(frozen=True, slots=True)
class Description:
    """A policy in its process, loaded and warm.

    Attributes:
        spec: what it is.
        max_batch: how many requests one call answers.
        keeps_state: whether a session's answers depend on its earlier requests.
    """

    spec: PolicySpec
    max_batch: int
    keeps_state: bool


class ReplicaLost(Exception):  # noqa: N818 - the fact that a process is gone
    """The process of a replica has ended, or could not start; the text says why."""


class LoadFailed(ReplicaLost):
    """The policy could not be loaded or warmed up in its process.

    Attributes:
        cause: what its loader raised.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Replica(Protocol):
    """A process with a policy. May be used from any thread.

    Calls and resets run one after the other, in the order in which they come.
    """

    def call(self, requests: Sequence[BatchRequest]) -> Answers:
        """Answers `requests`; blocks.

        Raises:
            ReplicaLost: the process has ended, also by `kill`.
        """

    def reset(self) -> None:
        """Starts a new episode of the policy; returns at once."""

    def stop(self) -> None:
        """Ends the process in order; it runs nothing. Returns at once."""

    def kill(self) -> None:
        """Ends the process, whatever it runs. Returns at once; harmless if it has ended."""


class Engine(Protocol):
    """Starts replicas."""

    def start(
        self, ready: Callable[[Description], None], lost: Callable[[ReplicaLost], None]
    ) -> Replica:
        """Starts one and returns, before its policy is loaded.

        Args:
            ready: is told, later and once, on any thread, that the policy is loaded and warm.
            lost: is told, later and once, on any thread, that the process has ended for whatever
                reason, or that it could not load the policy.
        """

    def close(self) -> None:
        """Gives back what it holds itself, after its replicas have been ended."""
