"""Where the grasp point is for given joints, and which joints bring it somewhere; closed form.

The pan joint turns a vertical plane. In it, two links and the hand add up to the grasp point; yaw
swings the hand out of the plane. Lengths are those of `arm.xml`, which a test compares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sim_robot.robot import LOWER_LIMITS, UPPER_LIMITS

Point = tuple[float, float, float]
"""x, y and z in the world, m."""

SHOULDER_Z, UPPER_ARM, FOREARM = 0.275, 0.34, 0.40
"""Height of the shoulder_lift joint, and the two links, m."""

WRIST, HAND = 0.05, 0.14
"""From wrist_pitch to wrist_yaw, and from there to the grasp point, m."""

DOWN = math.pi / 2
"""Pitch of a hand that points at the table, rad."""


class UnreachableError(ValueError):
    """No joint positions within the limits bring the grasp point there."""


@dataclass(frozen=True)
class Pose:
    """Of the hand.

    Attributes:
        point: the grasp point.
        pitch: of the hand below the horizontal with its yaw undone, rad.
        yaw: of the hand in the plane of its pitch, rad: the joint wrist_yaw.
        roll: about its own axis, rad: the joint wrist_roll.
    """

    point: Point
    pitch: float = DOWN
    yaw: float = 0.0
    roll: float = 0.0


def pose_of(joints: tuple[float, ...]) -> Pose:
    """Where the hand is; joints in the order of `robot.JOINTS`, the gripper may be left out."""
    pan, lift, elbow, wrist, yaw, roll = joints[:6]
    fore = lift + elbow
    pitch = fore + wrist
    along = WRIST + HAND * math.cos(yaw)
    out = UPPER_ARM * math.sin(lift) + FOREARM * math.cos(fore) + along * math.cos(pitch)
    height = SHOULDER_Z + UPPER_ARM * math.cos(lift) - FOREARM * math.sin(fore)
    height -= along * math.sin(pitch)
    side = HAND * math.sin(yaw)
    cos, sin = math.cos(pan), math.sin(pan)
    return Pose((out * cos - side * sin, out * sin + side * cos, height), pitch, yaw, roll)


def joints_for(pose: Pose) -> tuple[float, ...]:
    """The six joints of the arm that bring the hand there, the elbow up.

    Raises:
        UnreachableError: the arm is too short for it, or a joint's limit is in the way.
    """
    x, y, z = pose.point
    side = HAND * math.sin(pose.yaw)
    distance = math.hypot(x, y)
    if distance <= abs(side):
        raise UnreachableError(f"{_text(pose)} is too near to the axis of shoulder_pan")
    out = math.sqrt(distance**2 - side**2)
    pan = math.atan2(y, x) - math.atan2(side, out)
    along = WRIST + HAND * math.cos(pose.yaw)
    wrist_out = out - along * math.cos(pose.pitch)
    wrist_up = z - SHOULDER_Z + along * math.sin(pose.pitch)
    reach = math.hypot(wrist_out, wrist_up)
    bend = (reach**2 - UPPER_ARM**2 - FOREARM**2) / (2.0 * UPPER_ARM * FOREARM)
    if abs(bend) > 1.0:
        raise UnreachableError(f"{_text(pose)} is {reach:.3f} m from the shoulder for the wrist")
    turn = math.acos(bend)
    upper = math.atan2(-wrist_up, wrist_out)
    upper -= math.atan2(FOREARM * math.sin(turn), UPPER_ARM + FOREARM * math.cos(turn))
    joints = (
        pan,
        upper + math.pi / 2,
        turn - math.pi / 2,
        pose.pitch - (upper + turn),
        pose.yaw,
        pose.roll,
    )
    for index, value in enumerate(joints):
        if not LOWER_LIMITS[index] <= value <= UPPER_LIMITS[index]:
            raise UnreachableError(f"{_text(pose)} needs joint {index} at {value:.3f} rad")
    return joints


def _text(pose: Pose) -> str:
    return "({:.3f}, {:.3f}, {:.3f}) m".format(*pose.point)
