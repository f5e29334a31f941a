"""What became of a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from openpi_flash_training.demonstrations.recording import EpisodeFrames
from openpi_flash_training.evaluation.conditions import Trial
from sim_robot.tasks import Outcome


@dataclass(frozen=True)
class TrialResult:
    """What became of a trial.

    Attributes:
        trial: what was tried.
        outcome: SUCCESS, WRONG_CUBE, or RUNNING where the time was up.
        chosen: the cube that the arm touched or lifted first; None: none.
        reached_at: when each stage was reached, simulated seconds.
        seconds: until the outcome, or the time limit.
        rms_jerk: of the commanded arm joints, rad/s^3.
        border_jerk: the same within 0.1 s after a chunk took over from another; NaN: none did.
        requests: how many observations were sent.
        holds: how often the arm had to stop for want of a chunk.
        film: an MP4 file; empty where nothing was filmed.
        frames: of a dataset; None where nothing was recorded.
        subtasks_said: answers with a planner's subtask.
        subtasks_agreed: those that named the stage which the scripted expert would be at.
    """

    trial: Trial
    outcome: Outcome
    chosen: str | None
    reached_at: Mapping[str, float]
    seconds: float
    rms_jerk: float
    border_jerk: float
    requests: int
    holds: int
    film: bytes = field(default=b"", repr=False)
    frames: EpisodeFrames | None = field(default=None, repr=False, compare=False)
    subtasks_said: int = 0
    subtasks_agreed: int = 0

    @property
    def is_success(self) -> bool:
        """Whether the task was done with the cube that the prompt named."""
        return self.outcome is Outcome.SUCCESS
