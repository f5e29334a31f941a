"""Checks of numbers: what the robot measured and was commanded. Pure.

Every check gets all episodes: columns [T, D] by episode, and the names of the D numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from openpi_flash_training.inspection.finding import Finding, shortened

STILL_SHARE = 1e-3
"""Of a number's range: smaller steps are standing still."""
IDLE_SECONDS = 0.5
"""Shorter pauses belong to a task."""
MOST_IDLE = 0.3
LONGEST_START = 2.0
"""Seconds of standing still at the beginning."""
OUTLIER_RANGES = 5.0
"""Ranges (1st to 99th percentile) beyond the percentiles that no motion reaches."""
LEAST_GRIP = 0.2
"""Share of the gripper's range over the dataset that an episode should use."""
LONGEST_LAG = 0.4
"""Seconds by which a robot follows its commands; more is a wrong clock."""
LEAST_CORRELATION = 0.3
"""A lag with less is not one."""
_LAG_SEARCH = 1.0


@dataclass(frozen=True)
class Column:
    """A column of numbers of the whole dataset.

    Attributes:
        key: of the feature.
        names: of its numbers, [D].
        episodes: float64 [T, D] of each.
    """

    key: str
    names: tuple[str, ...]
    episodes: tuple[np.ndarray, ...]

    @property
    def rows(self) -> np.ndarray:
        """All frames, [N, D]."""
        return np.concatenate(self.episodes)

    def named(self, dimension: int) -> str:
        """Such as ``action[6] (gripper)``."""
        return f"{self.key}[{dimension}] ({self.names[dimension]})"


def check_finite(column: Column) -> Iterator[Finding]:
    """NaN and infinities."""
    for i, values in enumerate(column.episodes):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            frame, dimension = (int(x) for x in bad[0])
            yield Finding(
                "error",
                "not finite",
                f"{column.named(dimension)} is {values[frame, dimension]} at frame {frame}; "
                f"{len(bad)} such numbers",
                i,
            )


def check_constant(column: Column) -> Iterator[Finding]:
    """Numbers that never change."""
    rows = column.rows
    for dimension in np.flatnonzero(rows.min(axis=0) == rows.max(axis=0)):
        yield Finding(
            "warning",
            "constant",
            f"{column.named(int(dimension))} is {rows[0, dimension]:.4g} in every frame: "
            "normalisation would blow up any other value",
        )


def check_outliers(column: Column) -> Iterator[Finding]:
    """Numbers far from all others."""
    low, high = np.quantile(column.rows, [0.01, 0.99], axis=0)
    reach = OUTLIER_RANGES * (high - low)
    for dimension in range(len(low)):
        if reach[dimension] == 0:
            continue
        hits = [
            (i, int(np.argmax(beyond)), int(beyond.sum()))
            for i, values in enumerate(column.episodes)
            if (
                beyond := (values[:, dimension] > high[dimension] + reach[dimension])
                | (values[:, dimension] < low[dimension] - reach[dimension])
            ).any()
        ]
        if hits:
            episode, frame, _ = hits[0]
            value = column.episodes[episode][frame, dimension]
            yield Finding(
                "warning",
                "outlier",
                f"{column.named(dimension)} is {value:.4g} at frame {frame} (1st to 99th "
                f"percentile: {low[dimension]:.4g} to {high[dimension]:.4g}); "
                f"{sum(hit[2] for hit in hits)} frames in {len(hits)} episodes",
                episode,
            )


def check_timestamps(times: Sequence[np.ndarray], fps: float) -> Iterator[Finding]:
    """Gaps in the frames' times."""
    for i, stamps in enumerate(times):
        late = np.abs(np.diff(stamps) - 1 / fps) > 0.1 / fps
        if late.any():
            frame = int(np.argmax(late))
            step = stamps[frame + 1] - stamps[frame]
            yield Finding(
                "warning",
                "time gap",
                f"{step:.3f} s from frame {frame} to {frame + 1}, expected {1 / fps:.3f} s; "
                f"{int(late.sum())} such steps",
                i,
            )


def check_lengths(lengths: Sequence[int]) -> Iterator[Finding]:
    """Episodes too short to be one."""
    for i, length in enumerate(lengths):
        if length < 2:
            yield Finding("error", "length", "has one frame; leave it out", i)


def still_frames(columns: Sequence[Column]) -> list[np.ndarray]:
    """Whether nothing moves from each frame to the next, bool [T] of each episode."""
    ranges = [np.ptp(np.quantile(c.rows, [0.01, 0.99], axis=0), axis=0) for c in columns]
    still = []
    for i in range(len(columns[0].episodes)):
        quiet = np.ones(len(columns[0].episodes[i]), np.bool_)
        for column, span in zip(columns, ranges, strict=True):
            values = column.episodes[i]
            steps = np.abs(np.diff(values, axis=0, append=values[-1:]))
            quiet &= (steps <= STILL_SHARE * span).all(axis=1)
        if len(quiet) > 1:
            quiet[-1] = quiet[-2]
        still.append(quiet)
    return still


def check_idle(columns: Sequence[Column], fps: float) -> Iterator[Finding]:
    """Episodes in which the robot mostly stands still."""
    shares, starts = [], []
    for quiet in still_frames(columns):
        runs = _runs(quiet)
        idle = sum(length for _, length in runs if length >= IDLE_SECONDS * fps)
        shares.append(idle / len(quiet))
        starts.append(runs[0][1] / fps if runs and runs[0][0] == 0 else 0.0)
    idle_ones = [i for i, share in enumerate(shares) if share > MOST_IDLE]
    if idle_ones:
        yield Finding(
            "warning",
            "idle",
            f"nothing moves in {np.mean(shares):.0%} of the frames on average; more than "
            f"{MOST_IDLE:.0%} in episodes {shortened(idle_ones)}: a policy learns to stand still",
        )
    late_ones = [i for i, start in enumerate(starts) if start > LONGEST_START]
    if late_ones:
        yield Finding(
            "warning",
            "idle",
            f"nothing moves in the first {max(starts):.1f} s; more than {LONGEST_START:g} s in "
            f"episodes {shortened(late_ones)}: cut it off",
        )


def check_grippers(column: Column) -> Iterator[Finding]:
    """Grippers that never close, or never in some episodes."""
    rows = column.rows
    for dimension, name in enumerate(column.names):
        if "grip" not in name and "finger" not in name:
            continue
        span = np.ptp(rows[:, dimension])
        if span == 0:
            continue  # named as constant
        quiet = [
            i
            for i, values in enumerate(column.episodes)
            if np.ptp(values[:, dimension]) < LEAST_GRIP * span
        ]
        if quiet:
            yield Finding(
                "warning",
                "gripper",
                f"{column.named(dimension)} hardly moves in episodes {shortened(quiet)} "
                f"(under {LEAST_GRIP:.0%} of its range of {span:.3g}): it never opens or closes",
            )


def measure_lag(state: Column, action: Column, fps: float) -> tuple[float, float] | None:
    """By how much the state follows the action.

    Args:
        state: measured.
        action: commanded.
        fps: of both.

    Returns:
        Seconds (negative: the action comes after the state) and the correlation of their steps;
        None where no number is in both, or nothing moves.
    """
    pairs = [(state.names.index(n), i) for i, n in enumerate(action.names) if n in state.names]
    search = round(_LAG_SEARCH * fps)
    shifts = range(-search, search + 1)
    sums = np.zeros((len(shifts), 3))
    for measured, commanded in zip(state.episodes, action.episodes, strict=True):
        for s, a in pairs:
            # a steady motion looks the same at every lag
            steps, wanted = _changes(measured[:, s]), _changes(commanded[:, a])
            for row, shift in enumerate(shifts):
                x, y = _shifted(wanted, steps, shift)
                sums[row] += [x @ y, x @ x, y @ y]
    scale = np.sqrt(sums[:, 1] * sums[:, 2])
    if not pairs or not (scale > 0).any():
        return None
    correlation = np.divide(sums[:, 0], scale, out=np.zeros(len(shifts)), where=scale > 0)
    best = int(np.argmax(correlation))
    return shifts[best] / fps, float(correlation[best])


def check_lag(state: Column, action: Column, fps: float) -> Iterator[Finding]:
    """Commands and measurements that do not belong together in time."""
    found = measure_lag(state, action, fps)
    if found is None or found[1] < LEAST_CORRELATION:
        return
    lag, correlation = found
    if lag > LONGEST_LAG:
        yield Finding(
            "warning",
            "lag",
            f"the state follows the action {lag:.2f} s later (correlation {correlation:.2f}): "
            "their clocks differ, or the robot is slow",
        )
    elif lag < -0.5 / fps:
        yield Finding(
            "warning",
            "lag",
            f"the action follows the state {-lag:.2f} s later (correlation {correlation:.2f}): a "
            "policy learns to repeat what was; check the clocks",
        )


def columns_of(
    numbers: Sequence[Mapping[str, np.ndarray]], names: Mapping[str, tuple[str, ...]]
) -> dict[str, Column]:
    """Columns of vectors over all episodes."""
    return {
        key: Column(key, named, tuple(episode[key].astype(np.float64) for episode in numbers))
        for key, named in names.items()
    }


def _changes(values: np.ndarray) -> np.ndarray:
    """Steps of a number without their mean; zeros where they hardly differ from it."""
    steps = np.diff(values)
    changes = steps - steps.mean() if len(steps) else steps
    return changes if changes @ changes > 0.01 * (steps @ steps) else np.zeros(len(steps))


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Start and length of each run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b - a)) for a, b in edges.reshape(-1, 2)]


def _shifted(x: np.ndarray, y: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """The parts of x and of y ``shift`` later that overlap."""
    if abs(shift) >= len(x):
        return x[:0], y[:0]
    return (x[: len(x) - shift], y[shift:]) if shift >= 0 else (x[-shift:], y[:shift])
