"""A map in worker processes that stays only a few jobs ahead of who takes the results."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from openpi_flash_training.parent_process import end_with_parent

Job = TypeVar("Job")
Result = TypeVar("Result")

AHEAD = 3
"""Jobs of each worker that are begun before their results are taken: more would fill memory."""


class WorkerKilledError(Exception):
    """A worker process was killed, as a system does that runs out of memory."""


def spawned_map(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int
) -> Iterator[Result]:
    """The result of each job, in the order of the jobs.

    Args:
        function: of a module, as its name is what workers are sent.
        jobs: what it is called with.
        workers: processes.

    Raises:
        WorkerKilledError: one of them was killed.
    """
    # not forked: MuJoCo's OpenGL and the threads of this process do not survive it
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        waiting: list[Future[Result]] = []
        try:
            for job in jobs:
                waiting.append(pool.submit(function, job))
                if len(waiting) > AHEAD * workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        except BrokenProcessPool as error:
            raise WorkerKilledError from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
