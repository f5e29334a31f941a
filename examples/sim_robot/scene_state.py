"""What is true in the scene at one moment: what success and the scripted expert depend on."""

from __future__ import annotations

from dataclasses import dataclass

from sim_robot.kinematics import Point, Pose, pose_of


@dataclass(frozen=True)
class SceneState:
    """One moment. Cubes are named as in `robot.CUBES`, in whose order their places are.

    Attributes:
        time: simulated seconds since the start.
        joints: measured, in the order of `robot.JOINTS`: rad, and the gripper from 0 to 1.
        cubes: centre of each cube.
        touched: cubes that a finger touches.
        gripped: cubes that both fingers touch.
        on_plate: cubes that touch the plate.
    """

    time: float
    joints: tuple[float, ...]
    cubes: tuple[Point, ...]
    touched: frozenset[str] = frozenset()
    gripped: frozenset[str] = frozenset()
    on_plate: frozenset[str] = frozenset()

    @property
    def hand(self) -> Pose:
        """Where the hand is."""
        return pose_of(self.joints)

    @property
    def grip(self) -> float:
        """How far the gripper is closed: 0 open, 1 closed."""
        return self.joints[-1]
