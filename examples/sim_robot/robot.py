"""The arm in numbers: joints, limits, home, topics. `arm.xml` is held equal to it by a test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

JOINTS = (
    "shoulder_pan",
    "shoulder_lift",
    "elbow",
    "wrist_pitch",
    "wrist_yaw",
    "wrist_roll",
    "gripper",
)
"""Names in the order of every vector here; rad, but gripper: 0 open to 1 closed."""

HOME: tuple[float, ...] = (0.0, -0.6, 1.0, 0.9, 0.0, 0.0, 0.0)
LOWER_LIMITS: tuple[float, ...] = (-2.6, -1.8, -0.2, -1.8, -2.6, -2.9, 0.0)
UPPER_LIMITS: tuple[float, ...] = (2.6, 1.2, 2.4, 1.8, 2.6, 2.9, 1.0)

GRIPPER_SPEED = 2.0
"""Share of its range that the gripper opens or closes per second, as `config/robots/sim_arm.yaml`
limits it."""

CUBES = ("red_cube", "green_cube", "blue_cube")
COLOURS = ("red", "green", "blue")
"""Of the cubes, in their order."""

CUBE_HALF = 0.022
"""Half an edge, m."""

TABLE_Z = 0.002
"""Height of the mat, on which cubes lie, m."""

PLATE = (0.30, 0.27)
"""Centre of the plate, x and y, m."""

PLATE_RADIUS, PLATE_Z = 0.06, 0.008
"""m; its upper side."""

CAMERAS = ("scene", "wrist")

JOINT_STATES_TOPIC = "/joint_states"
CONTROLLER = "arm_controller"
TRAJECTORY_TOPIC = f"/{CONTROLLER}/joint_trajectory"
REFERENCE_TOPIC = f"/{CONTROLLER}/reference"
SCENE_TOPIC = "/sim_robot/scene"
"""What is true in the scene, for whoever judges; see `scene_report`."""


def camera_topic(camera: str) -> str:
    """Return the topic that a camera's images are published on."""
    return f"/{camera}_camera/image_raw"
