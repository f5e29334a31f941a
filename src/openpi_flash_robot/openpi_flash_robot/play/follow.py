"""Follows a path from the present state, within limits, to rest: the motion that is commanded.

Two layers. The path is travelled no faster than the limits allow, all joints together
(`smooth_path`): where the joints are on it already, that is the motion. Where they are not (after
a change of direction at a border, after a stop of this process), each joint makes for the path by
itself, and every one of its steps is bounded: its velocity, the change of its velocity, and the
room in which it can still stop.

The motion is a uniform quadratic B-spline of control points c[i], GRID apart. Its velocity between
two points is (c[i+1] - c[i]) / GRID at most, its acceleration exactly
(c[i+1] - 2 c[i] + c[i-1]) / GRID^2 in each piece, and it stays within the range of its control
points. So bounds on the control points are bounds on the curve.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.nanoseconds import SECOND, to_seconds
from openpi_flash_robot.play.joint_limits import JointLimits, brake, longest_step
from openpi_flash_robot.play.motion import Joints, Motion, MotionState
from openpi_flash_robot.play.smooth_path import Polygon, SmoothPath, at_most_as_fast, travel

GRID_NS = 20_000_000
GRID = to_seconds(GRID_NS)
"""Spacing of the control points: a controller gets a point about this often."""

RESERVE = 0.95
"""Share of the acceleration that a path may use; the rest brings joints back onto it."""

ON_PATH = 1e-9
"""rad or m; nearer than this a joint is on its path."""

LONGER = 0.5
"""Seconds beyond a path's own time that a motion is worked out for, besides four ramps between rest
and full speed; one that needs longer brakes there."""


def follow(
    start: MotionState,
    at_ns: int,
    times_ns: NDArray[np.int64],
    positions: NDArray[np.float64],
    *,
    smoothing_ns: int,
    limits: JointLimits,
) -> Motion:
    """The motion from a state along the points of a path, ending at rest at the last one.

    Args:
        start: where the joints are commanded to be, and how fast.
        at_ns: when that is.
        times_ns: when each point is due, int64 [K], strictly increasing, after `at_ns`; K >= 1.
        positions: the points, [K, N], finite; brought within the position limits first.
        smoothing_ns: over how long the path's corners are rounded; a step of the chunk.
        limits: what every joint may do. A start outside the position limits, or too fast to stop
            within them, is led back as fast as the others allow.
    """
    change = limits.acceleration * GRID**2
    inner = limits.within(change / 8.0)
    points = np.clip(positions, inner.lower, inner.upper)
    times = np.concatenate([[0.0], (times_ns - at_ns) / SECOND])
    ramp = float(np.max(limits.velocity / limits.acceleration))
    longest = float(times[-1]) + 4.0 * ramp + LONGER
    polygon = at_most_as_fast(
        Polygon(times, np.vstack([start.positions, points])), inner.velocity, longest
    )
    path = SmoothPath(polygon, to_seconds(smoothing_ns))
    most = int(longest / GRID) + 1
    paced = JointLimits(inner.lower, inner.upper, inner.velocity, inner.acceleration * RESERVE)
    # c[0] and c[1] lie half a grid before and after the start, and are given by it
    half = start.velocities * (GRID / 2.0)
    targets = travel(path, start.velocities, paced, first=1.5 * GRID, step=GRID, most=most)
    targets = np.clip(targets, inner.lower, inner.upper)
    controls = _steps(start.positions - half, start.positions + half, targets, inner, most)
    motion = _curve(controls, at_ns)
    left = motion.velocities[-1]
    if not left.any():
        return motion
    tail = brake(MotionState(motion.positions[-1], left), motion.end_ns, 0, limits)
    return Motion(
        np.concatenate([motion.times_ns, tail.times_ns[1:]]),
        np.concatenate([motion.positions, tail.positions[1:]]),
        np.concatenate([motion.velocities, tail.velocities[1:]]),
    )


def _steps(
    before: Joints,
    current: Joints,
    targets: NDArray[np.float64],
    limits: JointLimits,
    most: int,
) -> NDArray[np.float64]:
    """Control points [C, N]: the first two, then within the limits to rest at the last target.

    Args:
        before: the first control point.
        current: the second.
        targets: where the following ones should be, [T, N].
        limits: a start that breaks them is led back within them.
        most: how many steps to take at most; the last one may then be a moving one.
    """
    change = limits.acceleration * GRID**2
    fastest = limits.velocity * GRID
    # more room than a joint needs to stop from any speed; keeps arithmetic finite without limits
    enough = 2.0 * fastest * (fastest / change + 2.0)
    controls = [before, current]
    step = current - before
    target_now = 2.0 * targets[0] - targets[1] if len(targets) > 1 else current
    # a path that is cut off goes on: nothing rests at its last target
    path = targets if len(targets) == most else np.vstack([targets, targets[-1:]])
    free_from = _first_free(path, change, fastest)
    for index in range(most):
        if index >= len(targets) and _is_there(current - targets[-1], step):
            break
        target = targets[min(index, len(targets) - 1)]
        if index >= free_from and _meets_path(current, step, path[index:], change, fastest):
            return np.vstack([*controls, path[index:]])
        error = target_now - current
        approach = np.copysign(longest_step(np.minimum(np.abs(error), enough), change / 2.0), error)
        wanted = target - target_now + approach
        up = longest_step(np.clip(limits.upper - current, 0.0, enough), change)
        down = longest_step(np.clip(current - limits.lower, 0.0, enough), change)
        highest = np.minimum(np.minimum(step + change, fastest), up)
        lowest = np.maximum(np.maximum(step - change, -fastest), -down)
        taken = np.minimum(np.maximum(wanted, lowest), highest)
        # a start that breaks a limit leaves nothing between: go back as hard as is allowed
        step = np.minimum(np.maximum(taken, step - change), step + change)
        current = current + step
        controls.append(current)
        target_now = target
    return np.vstack(controls)


def _is_there(error: Joints, step: Joints) -> bool:
    return bool(np.all(np.abs(error) <= ON_PATH) and np.all(np.abs(step) <= ON_PATH))


def _first_free(path: NDArray[np.float64], change: Joints, fastest: Joints) -> int:
    """The index of the first point from which on the path keeps to the limits by itself."""
    steps = np.diff(path, axis=0)
    fast = np.any(np.abs(steps) > fastest + ON_PATH, axis=1)
    sharp = np.any(np.abs(np.diff(steps, axis=0)) > change + ON_PATH, axis=1)
    broken = np.flatnonzero(fast)
    bent = np.flatnonzero(sharp)
    return max(int(broken[-1]) + 1 if len(broken) else 0, int(bent[-1]) + 1 if len(bent) else 0)


def _meets_path(
    current: Joints, step: Joints, ahead: NDArray[np.float64], change: Joints, fastest: Joints
) -> bool:
    """Whether going on to the path's points ahead, one a step, breaks no limit."""
    if len(ahead) < 2:
        return False
    first, second = ahead[0] - current, ahead[1] - ahead[0]
    return bool(
        np.all(np.abs(first) <= fastest + ON_PATH)
        and np.all(np.abs(first - step) <= change + ON_PATH)
        and np.all(np.abs(second - first) <= change + ON_PATH)
    )


def _curve(controls: NDArray[np.float64], at_ns: int) -> Motion:
    """The uniform quadratic B-spline of control points, as points with velocities."""
    positions = (controls[1:] + controls[:-1]) / 2.0
    velocities = np.diff(controls, axis=0) / GRID
    still = np.all(np.abs(velocities) <= ON_PATH / GRID, axis=1)
    moving = np.flatnonzero(~still)
    last = min(int(moving[-1]) + 1 if len(moving) else 0, len(still) - 1)
    velocities[still] = 0.0
    return Motion(
        at_ns + np.arange(last + 1) * GRID_NS, positions[: last + 1], velocities[: last + 1]
    )
