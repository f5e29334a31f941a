"""One episode as it is heard: what becomes of it. Pure: reports and messages are passed in."""

from __future__ import annotations

import numpy as np

from openpi_flash_robot.bridge.status import State
from openpi_flash_training.evaluation.conditions import Trial
from openpi_flash_training.evaluation.motion_log import MotionLog
from openpi_flash_training.evaluation.trial_result import TrialResult
from sim_robot.scene_report import COMMAND_PERIOD, SceneReport
from sim_robot.tasks import TASKS, Outcome, Progress


class Course:
    """Collects what is said of a trial.

    Args:
        trial: what is tried.
        began_s: simulated seconds of its episode at which the robot was let go.

    Attributes:
        progress: how far it has come, by the newest report.
        has_run: whether the robot has played a chunk.
    """

    def __init__(self, trial: Trial, began_s: float) -> None:
        self._trial, self._began_s = trial, began_s
        self._limit_s = TASKS[trial.task].time_limit_s
        self._now_s = began_s
        self._log = MotionLog(COMMAND_PERIOD)
        self._state: State | None = None
        self._chunks = self._holds = 0
        self.progress = Progress()
        self.has_run = False

    @property
    def is_over(self) -> bool:
        """Whether the outcome is known, the time is up, or the robot waits for a person."""
        is_late = self._now_s - self._began_s >= self._limit_s
        return self.progress.outcome is not Outcome.RUNNING or is_late or self._is_at_fault

    @property
    def _is_at_fault(self) -> bool:
        return self.has_run and self._state is State.FAULT

    def hear_report(self, report: SceneReport) -> None:
        """What is true in the scene."""
        if self.is_over:
            return
        self._now_s, self.progress = report.state.time, report.progress
        for velocities in report.commanded:
            self._log.command(np.array(velocities))

    def hear_state(self, state: State) -> None:
        """What the node does; the same state may be said again and again."""
        if self._state is State.RUNNING and state is State.HOLDING and not self.is_over:
            self._holds += 1
        self.has_run = self.has_run or state is State.RUNNING
        self._state = state

    def hear_chunk(self) -> None:
        """A chunk is played from now on."""
        if self.is_over:
            return
        self._chunks += 1
        if self._state is State.RUNNING:
            self._log.border()

    def result(self, film: bytes = b"") -> TrialResult:
        """What became of it; times count from when the robot was let go."""
        jerk, border_jerk = self._log.jerks()
        ended = self.progress.ended_at
        return TrialResult(
            trial=self._trial,
            outcome=self.progress.outcome,
            chosen=self.progress.chosen,
            reached_at={
                stage: seconds - self._began_s
                for stage, seconds in self.progress.reached_at.items()
            },
            seconds=self._limit_s if ended is None else ended - self._began_s,
            rms_jerk=jerk,
            border_jerk=border_jerk,
            requests=self._chunks,
            holds=self._holds,
            film=film,
        )
