"""Plays the trials of an evaluation wherever there are workers, and sorts what becomes of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from openpi_flash_training.evaluation.conditions import Trial
from openpi_flash_training.evaluation.policy_choice import PolicyChoice
from openpi_flash_training.evaluation.trial_result import TrialResult
from openpi_flash_training.evaluation.worker_processes import WorkerProcesses
from sim_robot.gl_backend import choose_gl_backend


class Workers(Protocol):
    """Where episodes are played."""

    def play(
        self, choices: Sequence[PolicyChoice], jobs: Sequence[tuple[int, Trial]]
    ) -> Iterator[TrialResult]:
        """Play all jobs, each the index of a choice and a trial; results come in their order."""


def run_trials(
    choice: PolicyChoice,
    trials: Sequence[Trial],
    *,
    workers: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> list[TrialResult]:
    """Play every trial with one policy, in processes of this machine.

    Args:
        choice: the policy.
        trials: what to try, in one scene.
        workers: processes.
        progress: told how many are done.

    Raises:
        PolicyFailedError: the policy cannot be asked.
        RenderingUnavailableError: there is no OpenGL to draw with.
    """
    (results,) = run_policies([choice], trials, workers=WorkerProcesses(workers), progress=progress)
    return results


def run_policies(
    choices: Sequence[PolicyChoice],
    trials: Sequence[Trial],
    *,
    workers: Workers,
    progress: Callable[[int], None] = lambda _: None,
) -> list[list[TrialResult]]:
    """Play every trial with every policy.

    Results are the same however many workers there are, and wherever: an episode depends on its
    trial and its policy only.

    Args:
        choices: the policies.
        trials: what to try, in one scene.
        workers: who plays.
        progress: told how many episodes are done.

    Returns:
        For each policy the results in the order of the trials.

    Raises:
        PolicyFailedError: a policy cannot be asked.
        RenderingUnavailableError: there is no OpenGL to draw with.
    """
    if needs_pictures(choices, trials):
        os.environ["MUJOCO_GL"] = choose_gl_backend()
    # the policies of one trial after each other: all servers are busy from the start
    jobs = [(policy, trial) for trial in trials for policy in range(len(choices))]
    results: list[list[TrialResult]] = [[] for _ in choices]
    for done, ((policy, _), result) in enumerate(
        zip(jobs, workers.play(choices, jobs), strict=True), start=1
    ):
        results[policy].append(result)
        progress(done)
    return results


def needs_pictures(choices: Sequence[PolicyChoice], trials: Sequence[Trial]) -> bool:
    """Whether something is drawn: for a served policy, or for a film."""
    return any(choice is not None for choice in choices) or any(one.is_filmed for one in trials)
