"""A person at the keyboard moves the hand. Pure: a key in, a target out.

t        take the arm, and give it back to the policy
w s      away from the base, towards it
a d      left, right
r f      up, down
space    open or close the gripper
n        end this episode
q        end the run
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sim_robot.kinematics import DOWN, Point, Pose, UnreachableError, joints_for

STEP = 0.01
"""How far a key moves the hand, m."""

HOLDING = 0.3
"""A gripper that is closed farther than this may hold something, and stays closed."""

MOVES: dict[str, Point] = {
    "w": (STEP, 0.0, 0.0),
    "s": (-STEP, 0.0, 0.0),
    "a": (0.0, STEP, 0.0),
    "d": (0.0, -STEP, 0.0),
    "r": (0.0, 0.0, STEP),
    "f": (0.0, 0.0, -STEP),
}
HELP = "t take over/give back, w s a d r f move, space gripper, n next episode, q quit"


@dataclass(frozen=True)
class Jog:
    """Who has the arm, and where that person wants it.

    Attributes:
        is_taken: whether a person has it.
        target: where the person wants the hand; None: the policy has the arm.
        is_closed: whether the person wants the gripper closed.
        wants_next: whether the episode should end.
        wants_end: whether the run should end.
    """

    is_taken: bool = False
    target: Pose | None = None
    is_closed: bool = False
    wants_next: bool = False
    wants_end: bool = False

    def joints(self) -> tuple[float, ...] | None:
        """Where the person wants the joints; None: the policy has the arm."""
        if self.target is None:
            return None
        return (*joints_for(self.target), 1.0 if self.is_closed else 0.0)


def press(jog: Jog, key: str, hand: Pose, grip: float) -> Jog:
    """The next state after a key; keys that mean nothing change nothing.

    Args:
        jog: the state before.
        key: one character.
        hand: where the hand is.
        grip: how far the gripper is closed, 0 to 1.
    """
    if key == "q":
        return replace(jog, wants_end=True, wants_next=True)
    if key == "n":
        return replace(jog, wants_next=True)
    if key == "t":
        return _changed_hands(jog, hand, grip)
    if jog.target is not None and key == " ":
        return replace(jog, is_closed=not jog.is_closed)
    if jog.target is not None and key in MOVES:
        return replace(jog, target=_moved(jog.target, MOVES[key]))
    return jog


def _changed_hands(jog: Jog, hand: Pose, grip: float) -> Jog:
    if jog.is_taken:
        return replace(jog, is_taken=False, target=None)
    # upright from the start: a person thinks in up, down and sideways
    upright = Pose(hand.point, DOWN, 0.0, hand.roll)
    return replace(jog, is_taken=True, target=upright, is_closed=grip > HOLDING)


def _moved(target: Pose, by: Point) -> Pose:
    """The target moved; where it was, if the arm does not reach so far."""
    x, y, z = (a + b for a, b in zip(target.point, by, strict=True))
    moved = replace(target, point=(x, y, z))
    try:
        joints_for(moved)
    except UnreachableError:
        return target
    return moved
