"""What is measured of a motion that was played."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from chunk_policy import (
    FIRST_OBSTACLE,
    OBSTACLE_SPACING,
    SIDE,
    side_way,
)
from numpy.typing import NDArray
from virtual_play import SAMPLE_NS, Case, Played, play

Array = NDArray[np.float64]

WINDOW = 4
"""Samples of a window of 20 ms, over which accelerations and jerks are taken: a control period."""
STILL = 1e-3
"""m/s; slower is at rest."""
SHIFT = 0.1
"""m, by which the goal moves where reactions are measured."""
REACTIONS = 5
"""Moments within an execution horizon at which the goal moves."""


@dataclass(frozen=True)
class Measures:
    """Of one run, or the mean of several.

    Attributes:
        kick: largest change of velocity within a step behind a border, m/s.
        peak_jerk: m/s^3.
        rms_jerk: m/s^3.
        peak_acceleration: m/s^2.
        rms_acceleration: m/s^2.
        rest: share of the time at rest, from the first motion on.
        off_way: root mean square of the distance from the nearer of the two ways, mm.
        collisions: share of the obstacles that were passed nearer to the middle than to either way.
        speed: along the course, m/s.
        first_action: from the first observation to the first motion, ms.
        reaction: from a move of the goal to the first twentieth of the motion there, ms; NaN with
            obstacles.
        half_reaction: to half of the motion, ms; NaN with obstacles.
    """

    kick: float
    peak_jerk: float
    rms_jerk: float
    peak_acceleration: float
    rms_acceleration: float
    rest: float
    off_way: float
    collisions: float
    speed: float
    first_action: float
    reaction: float
    half_reaction: float


def derivatives(played: Played) -> tuple[Array, Array]:
    """Acceleration [T', 2] and jerk [T'', 2], as changes from one 20 ms to the next."""
    window_s = WINDOW * SAMPLE_NS / 1e9
    acceleration = (played.velocities[WINDOW:] - played.velocities[:-WINDOW]) / window_s
    jerk = (acceleration[WINDOW:] - acceleration[:-WINDOW]) / window_s
    return acceleration, jerk


def measure(case: Case) -> Measures:
    """Play a case and measure it."""
    played = play(case)
    moving = np.abs(played.velocities).max(axis=1) > STILL
    begin = int(np.argmax(moving))
    acceleration, jerk = derivatives(played)
    acceleration, jerk = acceleration[begin:], jerk[begin:]
    x, y = played.positions[:, 0], played.positions[:, 1]
    way = side_way(x) if case.has_obstacles else np.zeros_like(x)
    off = np.minimum(np.abs(y - way), np.abs(y + way))[begin:]
    last = x[-1] if case.has_obstacles else 0.0
    obstacles = np.arange(FIRST_OBSTACLE, last, OBSTACLE_SPACING)
    sides = np.abs(np.interp(obstacles, np.maximum.accumulate(x), y))
    reaction, half = reactions(case) if not case.has_obstacles else (math.nan, math.nan)
    return Measures(
        kick=float(np.abs(played.kicks).max()) if len(played.kicks) else 0.0,
        peak_jerk=float(np.abs(jerk).max()),
        rms_jerk=_rms(jerk),
        peak_acceleration=float(np.abs(acceleration).max()),
        rms_acceleration=_rms(acceleration),
        rest=float(1.0 - moving[begin:].mean()),
        off_way=1e3 * _rms(off),
        collisions=float(np.mean(sides < SIDE / 2.0)) if len(sides) else 0.0,
        speed=float((x[-1] - x[begin]) / (played.times[-1] - played.times[begin])),
        first_action=1e3 * float(played.times[begin]),
        reaction=reaction,
        half_reaction=half,
    )


def reactions(case: Case) -> tuple[float, float]:
    """Mean times, ms, from a move of the goal to a twentieth and to half of the motion there."""
    period_ns = case.execution_horizon * 40_000_000
    firsts, halves = [], []
    short = dataclasses.replace(case, seconds=4.5, has_obstacles=False)
    calm = play(short)
    for index in range(REACTIONS):
        moved_ns = 2_000_000_000 + index * period_ns // REACTIONS

        def goal(observed_ns: int, moved_ns: int = moved_ns) -> float:
            return SHIFT if observed_ns >= moved_ns else 0.0

        moved = play(short, goal).positions[:, 1] - calm.positions[:, 1]
        since = calm.times - moved_ns / 1e9
        firsts.append(_first(since, moved > 0.05 * SHIFT))
        halves.append(_first(since, moved > 0.5 * SHIFT))
    return float(np.mean(firsts)), float(np.mean(halves))


def _first(times: Array, reached: NDArray[np.bool_]) -> float:
    return 1e3 * float(times[np.argmax(reached)]) if reached.any() else float("inf")


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
