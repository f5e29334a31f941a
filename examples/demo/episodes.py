"""Plays episodes of a task one after the other, each from a new start, beside the monitor."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from demo.run_data import Episode
from openpi_flash_training.evaluation.conditions import Conditions, Trial
from openpi_flash_training.evaluation.policy import PolicyFailedError
from openpi_flash_training.through_ros.referee import Referee
from sim_robot.episode import EpisodeOrder
from sim_robot.scene_report import SceneReport

AFTER_S = 0.7
"""How long the arm stands after an episode, so that people see how it ended."""


class EpisodePlayer:
    """A referee in a thread of its own.

    Args:
        domain: of ROS.
        order: task, cube and seed; the starts begin with its index.
        is_recorded: whether the node records the episodes.

    Attributes:
        failure: why no more episodes are played; None: they are.
    """

    def __init__(self, domain: int, order: EpisodeOrder, *, is_recorded: bool = False) -> None:
        self._domain, self._order, self._is_recorded = domain, order, is_recorded
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._episodes: list[Episode] = []
        self._placed: list[int] = []
        self._newest = 0
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._run, name="episodes", daemon=True)
        self._thread.start()

    @property
    def episodes(self) -> list[Episode]:
        """Those that have ended; times are seconds of the system's clock."""
        with self._lock:
            return list(self._episodes)

    @property
    def placed(self) -> list[int]:
        """When arm and cubes were put to a new start: stamps of the first joint states there."""
        with self._lock:
            return list(self._placed)

    def close(self) -> None:
        """Play no more; the episode that runs does not count."""
        self._stopping.set()
        self._thread.join(30)

    def _run(self) -> None:
        referee = Referee(
            self._domain,
            "/openpi/client_node",
            check=self._check,
            on_report=self._hear,
            is_recorded=self._is_recorded,
        )
        try:
            referee.configure()
            index = self._order.index
            while True:
                self._play(referee, replace(self._order, index=index))
                index += 1
                self._stopping.wait(AFTER_S)
        except _StoppedError:
            pass
        except PolicyFailedError as error:
            self.failure = str(error)
        finally:
            referee.close()

    def _play(self, referee: Referee, order: EpisodeOrder) -> None:
        given = Conditions(inference_ms=0.0, is_real=True)
        result = referee.play(Trial(order.task, order.index, order.seed, order.cube, given))
        with self._lock:
            self._episodes.append(
                Episode(
                    ended=time.time_ns() * 1e-9,
                    prompt=order.prompt,
                    start=order.index,
                    is_success=result.is_success,
                    seconds=result.seconds,
                )
            )

    def _check(self) -> None:
        if self._stopping.is_set():
            raise _StoppedError

    def _hear(self, report: SceneReport) -> None:
        if report.episode > self._newest:
            self._newest = report.episode
            with self._lock:
                self._placed.append(report.stamp_ns)


class _StoppedError(Exception):
    """The demo ends."""
