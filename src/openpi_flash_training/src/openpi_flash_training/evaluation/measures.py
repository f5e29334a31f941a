"""What trials of one cell amount to: success with its interval, stages, times, colours. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from openpi_flash_training.evaluation.conditions import Conditions
from openpi_flash_training.evaluation.task_facts import TASK_FACTS
from openpi_flash_training.evaluation.trial_result import TrialResult
from sim_robot.robot import COLOURS, CUBES

NOTHING = "nothing"
"""What the arm has chosen if it chose no cube."""

Z95 = 1.959964
"""Of the normal distribution, for an interval of 95 %."""


@dataclass(frozen=True)
class Share:
    """A count of trials out of all.

    Attributes:
        count: how many.
        total: out of how many.
    """

    count: int
    total: int

    @property
    def value(self) -> float:
        """The share, 0 to 1; 0 of no trials is 0."""
        return self.count / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval (Wilson 1927, J. Am. Stat. Assoc. 22): 0 to 1 for no trials."""
        if not self.total:
            return 0.0, 1.0
        n, p = self.total, self.value
        middle = p + Z95**2 / (2 * n)
        half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
        scale = 1 + Z95**2 / n
        return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.count} of {self.total} [{low:.2f}, {high:.2f}]"


@dataclass(frozen=True)
class Cell:
    """Trials of one task under the same conditions.

    Attributes:
        task: its name.
        conditions: of all of them.
        is_swapped: whether the prompts named another colour than in the plain trials.
        success: of the cube that the prompt named.
        shuffled: of trials in which the arm chose what another trial's prompt named, prompts dealt
            out at random: a third where prompts are read as where they are not, if colours are.
        plain_cube: of trials in which the arm chose the cube of the plain trial of the same start.
        stages: how many reached each stage, in order.
        confusion: [named, chosen]: how many, by colours, and nothing in the end; empty for a task
            without colours, as are the two shares above.
        seconds: mean time to success; NaN without any.
        rms_jerk: mean, rad/s^3.
        border_jerk: mean, at chunk borders, rad/s^3; NaN where no chunk took over from another.
        holds: mean number of times that the arm had to stop for want of a chunk.
        subtasks: of the planner's subtasks, those that name the stage of the scripted expert; none
            of none without a planner.
    """

    task: str
    conditions: Conditions
    is_swapped: bool
    success: Share
    shuffled: Share
    plain_cube: Share
    stages: Mapping[str, Share]
    confusion: tuple[tuple[int, ...], ...]
    seconds: float
    rms_jerk: float
    border_jerk: float
    holds: float
    subtasks: Share = Share(0, 0)


def cell_of(results: Sequence[TrialResult]) -> Cell:
    """What trials amount to.

    Args:
        results: at least one; of one task, under the same conditions, all swapped or none.
    """
    first = results[0].trial
    total = len(results)
    done = [result.seconds for result in results if result.is_success]
    colours = _colours(results) if TASK_FACTS[first.task].has_colours else _NO_COLOURS
    return Cell(
        task=first.task,
        conditions=first.conditions,
        is_swapped=first.is_swapped,
        success=Share(len(done), total),
        shuffled=colours.shuffled,
        plain_cube=colours.plain_cube,
        stages={
            stage: Share(sum(stage in result.reached_at for result in results), total)
            for stage in TASK_FACTS[first.task].stages
        },
        confusion=colours.confusion,
        seconds=_mean(done),
        rms_jerk=_mean([result.rms_jerk for result in results]),
        border_jerk=_mean([result.border_jerk for result in results]),
        holds=_mean([float(result.holds) for result in results]),
        subtasks=Share(
            sum(result.subtasks_agreed for result in results),
            sum(result.subtasks_said for result in results),
        ),
    )


class _Colours(NamedTuple):
    """The parts of a cell that are about colours."""

    shuffled: Share
    plain_cube: Share
    confusion: tuple[tuple[int, ...], ...]


_NO_COLOURS = _Colours(Share(0, 0), Share(0, 0), ())


def _colours(results: Sequence[TrialResult]) -> _Colours:
    total = len(results)
    chosen = [
        len(CUBES) if result.chosen is None else CUBES.index(result.chosen) for result in results
    ]
    named = [CUBES.index(result.trial.cube) for result in results]
    dealt = np.random.default_rng(results[0].trial.seed).permutation(named)
    pairs = list(zip(named, chosen, strict=True))
    return _Colours(
        shuffled=Share(sum(a == b for a, b in zip(dealt, chosen, strict=True)), total),
        plain_cube=Share(sum(r.chosen == r.trial.plain_cube for r in results), total),
        confusion=tuple(
            tuple(pairs.count((row, column)) for column in range(len(CUBES) + 1))
            for row in range(len(CUBES))
        ),
    )


def as_json(cell: Cell) -> dict[str, Any]:
    """A cell for programs."""
    low, high = cell.success.interval
    given = cell.conditions
    return {
        "task": cell.task,
        "prompts": "swapped" if cell.is_swapped else "plain",
        "through": "ros" if given.is_real else "simulation",
        "method": given.method,
        "delay_ms": given.delay_ms,
        "inference_ms": given.inference_ms,
        "loss": given.loss,
        "held": given.held,
        "execution_s": given.execution_s,
        "episodes": cell.success.total,
        "successes": cell.success.count,
        "success": cell.success.value,
        "success_low": low,
        "success_high": high,
        "shuffled": cell.shuffled.value if cell.confusion else None,
        "plain_cube": cell.plain_cube.value if cell.confusion else None,
        "stages": {stage: share.value for stage, share in cell.stages.items()},
        "confusion": {
            colour: dict(zip((*COLOURS, NOTHING), row, strict=True))
            for colour, row in zip(COLOURS, cell.confusion, strict=False)
        },
        "seconds_to_success": _or_null(cell.seconds),
        "rms_jerk": _or_null(cell.rms_jerk),
        "border_jerk": _or_null(cell.border_jerk),
        "holds": cell.holds,
        "subtasks_said": cell.subtasks.total,
        "subtasks_agreed": cell.subtasks.count,
    }


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mean(values: Sequence[float]) -> float:
    values = [value for value in values if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan
