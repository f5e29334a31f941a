"""The path of a chunk without its corners, and how fast it may be travelled.

A chunk is a polygon: its velocity changes in steps. The path drawn here is the polygon's mean over
the length of a step, the quadratic B-spline of its points: it stays within the range of the points
around it, its velocity within theirs, and its acceleration is the change of their velocities.

The path is travelled at the chunk's own pace, or slower where a joint would break a limit: then
all joints slow down together, so that the arm keeps to the path (time-optimal path following by a
backward and a forward pass over the speed, as by Bobrow et al. 1985, with a speed of at most 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.play.joint_limits import JointLimits

TINY = 1e-12

NODES = 0.02
"""Seconds of the path between two places where its speed is worked out."""


@dataclass(frozen=True, eq=False)
class Polygon:
    """Straight lines between points.

    Attributes:
        times: seconds, [K], strictly increasing, K >= 2.
        positions: [K, N], rad or m.
    """

    times: NDArray[np.float64]
    positions: NDArray[np.float64]


def at_most_as_fast(polygon: Polygon, velocity: NDArray[np.float64], longest: float) -> Polygon:
    """The polygon with more time for every line on which a joint would be too fast.

    Args:
        polygon: begins at time 0.
        velocity: limit of each joint, [N].
        longest: seconds; the polygon is cut off there.
    """
    moves = np.diff(polygon.positions, axis=0)
    lengths = np.maximum(np.diff(polygon.times), (np.abs(moves) / velocity).max(axis=1))
    times = np.concatenate([[0.0], np.cumsum(lengths)])
    if times[-1] <= longest:
        return Polygon(times, polygon.positions)
    last = int(np.searchsorted(times, longest))
    share = (longest - times[last - 1]) / lengths[last - 1]
    end = polygon.positions[last - 1] + share * moves[last - 1]
    return Polygon(np.append(times[:last], longest), np.vstack([polygon.positions[:last], end]))


class SmoothPath:
    """A polygon's mean over `width` seconds around each moment.

    At both ends the polygon goes on as its own point reflection, which leaves its first and last
    point where they are.
    """

    def __init__(self, polygon: Polygon, width: float) -> None:
        self.begin, self.end = float(polygon.times[0]), float(polygon.times[-1])
        self._half = width / 2.0
        self._times, self._positions = _reflected(polygon, self._half)
        lengths = np.diff(self._times)[:, np.newaxis]
        self._slopes = np.diff(self._positions, axis=0) / lengths
        self._areas = np.zeros_like(self._positions)
        middles = (self._positions[1:] + self._positions[:-1]) / 2.0
        np.cumsum(middles * lengths, axis=0, out=self._areas[1:])

    def positions(self, moments: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions [T, N] at moments of the polygon's time."""
        before, after = moments - self._half, moments + self._half
        return (self._area(after) - self._area(before)) / (2.0 * self._half)

    def velocities(self, moments: NDArray[np.float64]) -> NDArray[np.float64]:
        """Velocities [T, N] at moments, travelled at the polygon's own pace."""
        before, after = moments - self._half, moments + self._half
        return (self._polygon(after) - self._polygon(before)) / (2.0 * self._half)

    def _piece(self, moments: NDArray[np.float64]) -> NDArray[np.int64]:
        found = np.searchsorted(self._times, moments, side="right") - 1
        return np.clip(found, 0, len(self._slopes) - 1)

    def _polygon(self, moments: NDArray[np.float64]) -> NDArray[np.float64]:
        at = self._piece(moments)
        passed = (moments - self._times[at])[:, np.newaxis]
        value: NDArray[np.float64] = self._positions[at] + passed * self._slopes[at]
        return value

    def _area(self, moments: NDArray[np.float64]) -> NDArray[np.float64]:
        """The polygon's integral from its beginning."""
        at = self._piece(moments)
        passed = (moments - self._times[at])[:, np.newaxis]
        value: NDArray[np.float64] = self._areas[at] + passed * (
            self._positions[at] + passed * self._slopes[at] / 2.0
        )
        return value


def _reflected(polygon: Polygon, reach: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The polygon with its point reflection at each end, for at least `reach` seconds."""
    times, positions = polygon.times, polygon.positions
    ahead = min(int(np.searchsorted(times, times[0] + reach)), len(times) - 1)
    behind = max(int(np.searchsorted(times, times[-1] - reach, side="right")) - 1, 0)
    before, after = slice(ahead, 0, -1), slice(len(times) - 2, behind - 1 if behind else None, -1)
    return (
        np.concatenate([2.0 * times[0] - times[before], times, 2.0 * times[-1] - times[after]]),
        np.concatenate(
            [
                2.0 * positions[0] - positions[before],
                positions,
                2.0 * positions[-1] - positions[after],
            ]
        ),
    )


def travel(
    path: SmoothPath,
    velocity: NDArray[np.float64],
    limits: JointLimits,
    *,
    first: float,
    step: float,
    most: int,
) -> NDArray[np.float64]:
    """Where the joints are on the path at equally spaced times until they are at its end.

    Args:
        path: begins where the joints are.
        velocity: how fast they go at the start, [N]; what of it is along the path is kept.
        limits: only velocity and acceleration matter.
        first: the first time, seconds after the start.
        step: seconds between two times.
        most: no more times than this; what is left of the path is left out.

    Returns:
        Positions [T, N], 1 <= T <= most.
    """
    count = max(2, int(np.ceil((path.end - path.begin) / NODES - 1e-6)))
    spacing = (path.end - path.begin) / count
    halves = np.linspace(path.begin, path.end, 2 * count + 1)
    nodes = halves[::2]
    speeds = _speeds(path.velocities(halves), spacing, velocity, limits)
    lengths = 2.0 * spacing / np.maximum(speeds[1:] + speeds[:-1], TINY)
    arrivals = np.concatenate([[0.0], np.cumsum(lengths)])
    wanted = max(np.ceil((arrivals[-1] - first) / step), 0.0) + 1.0
    times = first + step * np.arange(int(min(wanted, float(most))))
    at = np.clip(np.searchsorted(arrivals, times, side="right") - 1, 0, count - 1)
    passed = np.minimum(times - arrivals[at], lengths[at])
    gain = (speeds[at + 1] - speeds[at]) / lengths[at]
    travelled = np.clip(passed * (speeds[at] + passed * gain / 2.0), 0.0, spacing)
    return path.positions(np.minimum(nodes[at] + travelled, path.end))


def _speeds(
    slopes: NDArray[np.float64],
    spacing: float,
    velocity: NDArray[np.float64],
    limits: JointLimits,
) -> NDArray[np.float64]:
    """How much of the chunk's own pace is possible at each node, 0 to 1; 0 at the end.

    Args:
        slopes: the path's velocities at the nodes and midway between them, [2 M + 1, N].
        spacing: seconds between two nodes.
        velocity: at the start, [N].
        limits: velocity and acceleration.
    """
    steepness = np.maximum(np.abs(slopes), TINY)
    steepest = np.maximum(np.maximum(steepness[:-2:2], steepness[1::2]), steepness[2::2])
    fastest = np.minimum(1.0, (limits.velocity / steepest).min(axis=1)) ** 2
    push = (limits.acceleration / steepest).min(axis=1) * 2.0 * spacing
    bends = np.maximum(np.abs(np.diff(slopes, axis=0)) / (spacing / 2.0), TINY)
    tightest = _least_nearby((limits.acceleration / bends).min(axis=1))
    tightest = np.minimum(tightest[::2], tightest[1::2])
    highest = np.minimum(fastest, tightest)
    ceiling = np.minimum(
        np.concatenate([highest[:1], highest]), np.concatenate([highest, highest[-1:]])
    )
    ceiling[0] = min(float(ceiling[0]), _along(velocity, slopes[0]) ** 2)
    ceiling[-1] = 0.0
    squares, pushes, turns = ceiling.tolist(), push.tolist(), tightest.tolist()
    last = len(squares) - 1
    for node in range(last - 1, -1, -1):  # brake in time for what comes
        reached = _reached(squares[node + 1], pushes[node], turns[node])
        squares[node] = min(squares[node], reached)
    for node in range(last):  # speed up no faster than the limits allow
        reached = _reached(squares[node], pushes[node], turns[node])
        squares[node + 1] = min(squares[node + 1], reached)
    return np.sqrt(np.array(squares))


def _least_nearby(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """For every interval the least value of itself and its two neighbours.

    A bend may begin inside an interval, where the mean over the interval hides it.
    """
    least = values.copy()
    np.minimum(least[1:], values[:-1], out=least[1:])
    np.minimum(least[:-1], values[1:], out=least[:-1])
    return least


def _reached(known: float, push: float, tightest: float) -> float:
    """The square of the speed at the other end of an interval, as high as the limits allow.

    A bend in the path takes its share of the acceleration: what is left changes the speed.
    """
    return known + push * max(1.0 - known / tightest, 0.0)


def _along(velocity: NDArray[np.float64], slope: NDArray[np.float64]) -> float:
    """How much of the path's own pace a velocity is, 0 to 1."""
    length = float(slope @ slope)
    if length <= TINY:
        return 1.0
    return min(max(float(velocity @ slope) / length, 0.0), 1.0)
