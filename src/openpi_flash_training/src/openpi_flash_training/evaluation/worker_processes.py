"""Plays trials in processes of this machine, each with its own plant, cameras and connections."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from openpi_flash_training.evaluation.conditions import Trial
from openpi_flash_training.evaluation.policy import PolicyFailedError
from openpi_flash_training.evaluation.policy_choice import PolicyChoice
from openpi_flash_training.evaluation.trial_player import TrialPlayer
from openpi_flash_training.evaluation.trial_result import TrialResult
from openpi_flash_training.parent_process import end_with_parent


class WorkerProcesses:
    """Processes that play trials.

    Args:
        count: how many.
    """

    def __init__(self, count: int = 1) -> None:
        self._count = count

    def play(
        self, choices: Sequence[PolicyChoice], jobs: Sequence[tuple[int, Trial]]
    ) -> Iterator[TrialResult]:
        """Play all jobs; results come in their order.

        Args:
            choices: the policies.
            jobs: the index of a policy, and what to try with it.

        Raises:
            PolicyFailedError: a policy cannot be asked, or a process was killed.
        """
        # not forked: MuJoCo's OpenGL and the threads of a connection do not survive it
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            min(self._count, max(len(jobs), 1)),
            mp_context=context,
            initializer=_begin_worker,
            initargs=(choices,),
        ) as pool:
            try:
                yield from pool.map(_play, jobs)
            except BrokenProcessPool as error:
                raise PolicyFailedError("a worker process was killed") from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


class _Worker:
    """What a worker process has."""

    player: TrialPlayer | None = None


def _begin_worker(choices: Sequence[PolicyChoice]) -> None:
    end_with_parent()
    # it opens nothing yet: an error while a worker begins would only be a broken pool
    _Worker.player = TrialPlayer(choices)


def _play(job: tuple[int, Trial]) -> TrialResult:
    assert _Worker.player is not None
    return _Worker.player.play(*job)
