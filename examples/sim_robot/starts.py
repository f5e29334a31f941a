"""Where the arm and the cubes are when an episode begins. Pure: the same generator, the same start.

`near_home` is the demo's: the arm at home, each cube near its own place. `spread` is for learning
and measuring: cubes and hand anywhere in the arm's workspace.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sim_robot.kinematics import DOWN, Pose, joints_for
from sim_robot.robot import CUBES, HOME

CUBE_PLACES = ((0.29, -0.07), (0.38, 0.04), (0.28, 0.07))
"""Of the cubes near home, in their order, m; equal to `arm.xml`'s."""

NEAR = 0.02
"""m; less than half the smallest gap between two cubes' places, so that none overlap."""

SPREAD_X, SPREAD_Y = (0.25, 0.43), (-0.17, 0.17)
"""Where the centre of a cube may be, m."""

APART = 0.085
"""Between the centres of two cubes at least, m: the open gripper fits between them."""

HAND_X, HAND_Y, HAND_Z = (0.24, 0.42), (-0.18, 0.18), (0.15, 0.30)
"""Where the grasp point may be, m."""

HAND_TURN = 0.25
"""Yaw and roll of the hand at most, rad."""


@dataclass(frozen=True)
class CubePlace:
    """Of one cube on the table.

    Attributes:
        x: of its centre, m.
        y: of its centre, m.
        turn: about the vertical, rad.
    """

    x: float
    y: float
    turn: float


@dataclass(frozen=True)
class Start:
    """How an episode begins.

    Attributes:
        joints: of the arm, in the order of `robot.JOINTS`.
        cubes: in the order of `robot.CUBES`.
    """

    joints: tuple[float, ...]
    cubes: tuple[CubePlace, ...]


def near_home(rng: np.random.Generator) -> Start:
    """The arm at home, and the cubes moved a little from their places."""
    cubes = []
    for x, y in CUBE_PLACES:
        turn = rng.uniform(-math.pi / 4, math.pi / 4)
        moved_x, moved_y = rng.uniform(-NEAR, NEAR, 2)
        cubes.append(CubePlace(x + float(moved_x), y + float(moved_y), float(turn)))
    return Start(HOME, tuple(cubes))


def spread(rng: np.random.Generator) -> Start:
    """The hand above the table, turned a little, its gripper open; cubes anywhere on the mat."""
    places: list[tuple[float, float]] = []
    while len(places) < len(CUBES):
        x, y = float(rng.uniform(*SPREAD_X)), float(rng.uniform(*SPREAD_Y))
        if all(math.hypot(x - other_x, y - other_y) >= APART for other_x, other_y in places):
            places.append((x, y))
        elif len(places) == len(CUBES) - 1 and rng.random() < 0.02:
            places.clear()  # two cubes may leave no room for a third
    turns = rng.uniform(-math.pi / 4, math.pi / 4, len(CUBES))
    hand = tuple(float(rng.uniform(*bounds)) for bounds in (HAND_X, HAND_Y, HAND_Z))
    yaw, roll = (float(turn) for turn in rng.uniform(-HAND_TURN, HAND_TURN, 2))
    joints = joints_for(Pose((hand[0], hand[1], hand[2]), DOWN, yaw, roll))
    return Start(
        (*joints, 0.0),
        tuple(CubePlace(x, y, float(turn)) for (x, y), turn in zip(places, turns, strict=True)),
    )
