"""The scripted expert: what the hand should do next, as a function of what is true in the scene.

It has no memory, so any state can be labelled with what the expert would do from there, also a
state that a policy or noise has come to. Its way is a funnel: rise, go over the cube, go down; then
it closes the gripper, lifts, and for `place` goes over the plate, goes down and opens.

A chunk is imagined: the hand goes where it is told, the gripper closes at its speed, and a gripped
cube moves with the hand. Physics is not asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim_robot.kinematics import DOWN, Point, Pose, UnreachableError, joints_for, pose_of
from sim_robot.robot import CUBE_HALF, CUBES, GRIPPER_SPEED, PLATE, PLATE_RADIUS, PLATE_Z
from sim_robot.scene_state import SceneState
from sim_robot.tasks import LOW, NEAR, RESTING, Task

SPEED = 0.25
"""Of the hand, m/s."""

TURN_SPEED = 2.5
"""Of each of the hand's angles, rad/s."""

JOINT_SPEED = 2.0
"""Of each joint, rad/s: near the axis of shoulder_pan the hand is slower than `SPEED`."""

FINGERTIP = 0.009
"""How far the fingers reach beyond the grasp point, m."""

PRESS = 0.004
"""How far below the top of a cube `touch` sends the fingertips, m."""

OVER = 0.10
"""Height of the hand, m, at which it and a held cube pass over the other cubes."""

LIFTED = RESTING + 0.10
"""Height to which a cube is lifted, m."""

AT_CUBE = 0.012
"""From the grasp point to where a cube is gripped, sideways and in height, m."""

GRASPING = 0.020
"""The same while the gripper closes, m."""

AROUND = 0.03
"""A cube that both fingers touch is held if it is so near to the grasp point, m."""

HELD_GRIP = 0.30
"""How far the gripper is closed when it holds a cube, at least: on two opposite edges 0.37."""

CLOSED_GRIP = 0.46
"""How far it is closed on two parallel sides: what is imagined of a gripper that closes."""

OPEN_GRIP = 0.15
"""A gripper that is closed farther than this opens before the hand goes on."""

OVER_PLATE = 0.015
"""From the middle of the plate, m, at which a cube is set down."""

RELEASE_Z = PLATE_Z + CUBE_HALF + 0.004
"""Height of the middle of a cube when the gripper lets it go, m."""

STAGES = ("reach", "grasp", "lift", "place", "done")
"""What the expert is about, in the words of the planner's subtasks."""


@dataclass(frozen=True)
class Imagined:
    """What the expert looks at.

    Attributes:
        hand: where the hand is.
        grip: how far the gripper is closed, 0 to 1.
        cubes: centre of each, in the order of `robot.CUBES`.
        held: the cube that the gripper holds; None: none.
    """

    hand: Pose
    grip: float
    cubes: tuple[Point, ...]
    held: str | None = None


@dataclass(frozen=True)
class Intent:
    """What the hand should do next.

    Attributes:
        point: where it should go in the end, if nothing changes.
        is_closed: whether the gripper should be closed.
        stage: of `STAGES`.
    """

    point: Point
    is_closed: bool
    stage: str


def seen(state: SceneState) -> Imagined:
    """What the expert looks at, in a state of the scene."""
    hand = state.hand
    held = None
    for name, cube in zip(CUBES, state.cubes, strict=True):
        if name in state.gripped and state.grip >= HELD_GRIP:
            held = name if math.dist(cube, hand.point) <= AROUND else held
    return Imagined(hand, state.grip, state.cubes, held)


def intent(task: Task, cube: str, scene: Imagined) -> Intent:
    """What the expert wants, for a task with a cube."""
    if task.name == "touch":
        x, y, z = scene.cubes[CUBES.index(cube)]
        goal = (x, y, z + CUBE_HALF + FINGERTIP - PRESS)
        is_there = math.dist(goal, scene.hand.point) < AT_CUBE
        stage = "done" if is_there else "reach"
        return Intent(_funnel(scene.hand.point, goal, steepness=2.0, mouth=0.015), True, stage)
    if scene.held == cube:
        return _carry(task, cube, scene)
    return _fetch(task, cube, scene)


def _fetch(task: Task, cube: str, scene: Imagined) -> Intent:
    x, y, z = scene.cubes[CUBES.index(cube)]
    hand = scene.hand.point
    if task.name == "place" and _is_on_plate((x, y, z)):
        return Intent((hand[0], hand[1], max(hand[2], LIFTED)), False, "done")
    sideways = math.hypot(x - hand[0], y - hand[1])
    # where an observer would call the cube reached, which is wider than where the hand goes down
    stage = "grasp" if sideways <= NEAR and hand[2] - z <= LOW else "reach"
    # a gripper that has begun to close goes on: a hand that is a little late is no reason to open
    height = GRASPING if scene.grip > OPEN_GRIP else AT_CUBE
    if sideways <= height and abs(z - hand[2]) <= height and scene.held is None:
        return Intent((x, y, z), True, stage)
    if scene.grip > OPEN_GRIP and hand[2] < OVER:
        return Intent(hand, False, stage)
    return Intent(_funnel(hand, (x, y, z), steepness=4.0, mouth=0.008), False, stage)


def _carry(task: Task, cube: str, scene: Imagined) -> Intent:
    x, y, z = scene.cubes[CUBES.index(cube)]
    hand = scene.hand.point
    below = hand[2] - z
    if task.name == "pick":
        return Intent((hand[0], hand[1], LIFTED + below), True, "lift")
    # the cube is to be in the middle of the plate, wherever in the hand it is
    goal = (hand[0] + PLATE[0] - x, hand[1] + PLATE[1] - y)
    away = math.hypot(PLATE[0] - x, PLATE[1] - y)
    if away <= OVER_PLATE:
        if z <= RELEASE_Z + 0.002:
            return Intent(hand, False, "place")
        return Intent((*goal, RELEASE_Z + below), True, "place")
    if z < LIFTED - 0.02 and away > PLATE_RADIUS:
        return Intent((hand[0], hand[1], LIFTED + below), True, "lift")
    return Intent((*goal, LIFTED + below), True, "place")


def _is_on_plate(cube: Point) -> bool:
    away = math.hypot(cube[0] - PLATE[0], cube[1] - PLATE[1])
    return away <= PLATE_RADIUS and cube[2] <= PLATE_Z + CUBE_HALF + 0.006


def _funnel(hand: Point, goal: Point, *, steepness: float, mouth: float) -> Point:
    """Where to go on the way down to a goal: over it first, lower the nearer.

    Args:
        hand: where the hand is.
        goal: where it should come to.
        steepness: height above the goal per distance beside it.
        mouth: distance beside the goal from which the way leads straight down, m.
    """
    beside = math.hypot(goal[0] - hand[0], goal[1] - hand[1])
    lowest = min(max(OVER, goal[2]), goal[2] + steepness * max(0.0, beside - mouth))
    if hand[2] < lowest - 0.01:
        return hand[0], hand[1], lowest
    return goal[0], goal[1], lowest


def step(task: Task, cube: str, scene: Imagined, seconds: float) -> tuple[Imagined, Intent]:
    """Imagine the expert at work for some seconds, few enough for one straight move."""
    wanted = intent(task, cube, scene)
    hand = Pose(
        _towards(scene.hand.point, wanted.point, SPEED * seconds),
        _turned(scene.hand.pitch, DOWN, TURN_SPEED * seconds),
        _turned(scene.hand.yaw, 0.0, TURN_SPEED * seconds),
        _turned(scene.hand.roll, 0.0, TURN_SPEED * seconds),
    )
    grip = _turned(scene.grip, 1.0 if wanted.is_closed else 0.0, GRIPPER_SPEED * seconds)
    cubes, held = scene.cubes, scene.held
    if held is not None:
        moved = tuple(
            after - before for after, before in zip(hand.point, scene.hand.point, strict=True)
        )
        cubes = tuple(
            (c[0] + moved[0], c[1] + moved[1], c[2] + moved[2]) if name == held else c
            for name, c in zip(CUBES, cubes, strict=True)
        )
        if wanted.is_closed:
            grip = min(grip, max(scene.grip, CLOSED_GRIP))  # the cube is in the way
        else:
            held = None
            cubes = tuple(
                _dropped(c) if name == scene.held else c
                for name, c in zip(CUBES, cubes, strict=True)
            )
    elif wanted.is_closed and task.name != "touch" and grip >= CLOSED_GRIP:
        held, grip = cube, max(CLOSED_GRIP, scene.grip)
    return Imagined(hand, grip, cubes, held), wanted


def _dropped(cube: Point) -> Point:
    is_over = math.hypot(cube[0] - PLATE[0], cube[1] - PLATE[1]) <= PLATE_RADIUS
    return cube[0], cube[1], PLATE_Z + CUBE_HALF if is_over else RESTING


def chunk(
    task: Task, cube: str, state: SceneState, *, horizon: int, step_s: float
) -> NDArray[np.float64]:
    """What the expert would do from here.

    Args:
        task: what is to be done.
        cube: with which cube.
        state: what is true now.
        horizon: how many steps.
        step_s: seconds between them.

    Returns:
        [H, 7], in the order of `robot.JOINTS`: row k is where the joints should be k steps from
        now, row 0 where they are; the gripper's column is 0 or 1, what it is told.
    """
    scene, arm = seen(state), state.joints[:-1]
    rows = []
    for _ in range(horizon):
        scene, wanted = step(task, cube, scene, step_s)
        rows.append((*arm, 1.0 if wanted.is_closed else 0.0))
        aim = _joints_or(arm, scene.hand)
        arm = tuple(_turned(a, b, JOINT_SPEED * step_s) for a, b in zip(arm, aim, strict=True))
        if arm != aim:
            scene = replace(scene, hand=pose_of(arm))
    return np.array(rows)


def _joints_or(stay: tuple[float, ...], hand: Pose) -> tuple[float, ...]:
    """The joints for a pose; those to stay at where noise has led the hand out of reach."""
    try:
        return joints_for(hand)
    except UnreachableError:
        return stay


def _towards(start: Point, end: Point, most: float) -> Point:
    distance = math.dist(start, end)
    if distance <= most:
        return end
    share = most / distance
    x, y, z = (s + share * (e - s) for s, e in zip(start, end, strict=True))
    return x, y, z


def _turned(start: float, end: float, most: float) -> float:
    return start + max(-most, min(most, end - start))
