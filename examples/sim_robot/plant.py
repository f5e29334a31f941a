"""The physics: MuJoCo stepped by whoever owns the clock. No ROS, no clock, no pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from sim_robot.projection import CameraView
from sim_robot.robot import CUBE_HALF, CUBES, JOINTS, LOWER_LIMITS, TABLE_Z, UPPER_LIMITS, Vector
from sim_robot.scene_state import SceneState
from sim_robot.starts import Start, near_home

MODEL_PATH = Path(__file__).parent / "arm.xml"


@dataclass(frozen=True)
class Snapshot:
    """Everything a camera needs to draw one instant."""

    time: float
    """Seconds of simulated time."""
    qpos: NDArray[np.float64]
    """MuJoCo's generalised positions, a copy."""


class Plant:
    """The arm, its table and its cubes. Vectors are in the order of `robot.JOINTS`."""

    def __init__(self, seed: int = 0) -> None:
        """Load the model and reset it: the arm at home, the cubes near their places."""
        self.model = mujoco.MjModel.from_xml_path(str(MODEL_PATH))
        self._data = mujoco.MjData(self.model)
        hinges = [self.model.joint(name) for name in JOINTS[:-1]]
        fingers = [self.model.joint(name) for name in ("left_finger", "right_finger")]
        self._hinge_qpos = np.array([int(joint.qposadr[0]) for joint in hinges])
        self._hinge_dofs = np.array([int(joint.dofadr[0]) for joint in hinges])
        self._finger_qpos = np.array([int(joint.qposadr[0]) for joint in fingers])
        self._finger_dofs = np.array([int(joint.dofadr[0]) for joint in fingers])
        self._finger_travel = float(fingers[0].range[1])
        actuators = [self.model.actuator(name) for name in JOINTS]
        self._actuators = np.array([actuator.id for actuator in actuators])
        # A position servo lags a moving target by (kv + damping) / kp seconds: add what cancels it.
        kp = np.array([float(actuator.gainprm[0]) for actuator in actuators])
        kv = np.array([-float(actuator.biasprm[2]) for actuator in actuators])
        damping = np.append(self.model.dof_damping[self._hinge_dofs], 0.0)
        self._lag = (kv + damping) / kp
        self._cube_bodies = {self.model.body(name).id: name for name in CUBES}
        self._finger_bodies = {
            self.model.body(name).id: name for name in ("left_finger", "right_finger")
        }
        self._plate_body = self.model.body("plate").id
        self.reset(seed)

    def reset(
        self, seed: int, start_of: Callable[[np.random.Generator], Start] = near_home
    ) -> None:
        """Begin anew, at rest and at time 0; the model is not loaded again.

        Args:
            seed: the same seed gives the same start, whatever was before.
            start_of: draws the start; `starts.near_home` or `starts.spread`.
        """
        self.place(start_of(np.random.default_rng(seed)))

    def place(self, start: Start) -> None:
        """Begin anew with a start that is known."""
        mujoco.mj_resetData(self.model, self._data)
        joints = np.array(start.joints)
        self._data.qpos[self._hinge_qpos] = joints[:-1]
        self._data.qpos[self._finger_qpos] = joints[-1] * self._finger_travel
        for name, cube in zip(CUBES, start.cubes, strict=True):
            address = int(self.model.joint(name).qposadr[0])
            turn = [math.cos(cube.turn / 2), 0, 0, math.sin(cube.turn / 2)]
            # a hair above the mat, as the solver lets it rest
            self._data.qpos[address : address + 3] = [cube.x, cube.y, CUBE_HALF + TABLE_Z + 2e-4]
            self._data.qpos[address + 3 : address + 7] = turn
        self.command(joints, np.zeros(len(JOINTS)))
        mujoco.mj_forward(self.model, self._data)

    @property
    def timestep(self) -> float:
        """Seconds of simulated time per step."""
        return float(self.model.opt.timestep)

    @property
    def time(self) -> float:
        """Simulated seconds since the start."""
        return float(self._data.time)

    @property
    def positions(self) -> Vector:
        """Measured joint positions, [7]."""
        gripper = self._data.qpos[self._finger_qpos].mean() / self._finger_travel
        return np.append(self._data.qpos[self._hinge_qpos], gripper)

    @property
    def velocities(self) -> Vector:
        """Measured joint velocities, [7] per second."""
        gripper = self._data.qvel[self._finger_dofs].mean() / self._finger_travel
        return np.append(self._data.qvel[self._hinge_dofs], gripper)

    def body_position(self, name: str) -> Vector:
        """Return where a body, e.g. "red_cube", is in the world; metres, [3]."""
        return np.array(self._data.body(name).xpos)

    def command(self, positions: Vector, velocities: Vector) -> None:
        """Set what the servos aim at; positions beyond a joint's limit are clipped to it."""
        clipped = np.clip(positions, LOWER_LIMITS, UPPER_LIMITS)
        inside = clipped == positions
        self._data.ctrl[self._actuators] = clipped + np.where(inside, velocities, 0.0) * self._lag

    def step(self, *, brakes: bool = False) -> None:
        """Advance by one timestep; with brakes nothing moves, whatever the servos want."""
        stood = self._data.qpos.copy()
        mujoco.mj_step(self.model, self._data)
        if brakes:
            self._data.qpos[:] = stood
            self._data.qvel[:] = 0.0

    def snapshot(self) -> Snapshot:
        """Copy what a camera needs, so that it can draw while the physics goes on."""
        return Snapshot(self.time, np.array(self._data.qpos))

    def contacts(self) -> frozenset[tuple[str, str]]:
        """Names of the bodies that touch each other, each pair in alphabetical order."""
        found = set()
        for geoms in self._data.contact.geom[: self._data.ncon]:
            bodies = self.model.geom_bodyid[geoms]
            first, second = sorted(self.model.body(int(body)).name for body in bodies)
            found.add((first, second))
        return frozenset(found)

    def state(self) -> SceneState:
        """What is true in the scene now."""
        by_finger: dict[str, set[str]] = {name: set() for name in self._finger_bodies.values()}
        on_plate = set()
        for geoms in self._data.contact.geom[: self._data.ncon]:
            first, second = (int(body) for body in self.model.geom_bodyid[geoms])
            cube = self._cube_bodies.get(first) or self._cube_bodies.get(second)
            finger = self._finger_bodies.get(first) or self._finger_bodies.get(second)
            if cube and finger:
                by_finger[finger].add(cube)
            elif cube and self._plate_body in (first, second):
                on_plate.add(cube)
        left, right = by_finger.values()
        return SceneState(
            time=self.time,
            joints=tuple(float(value) for value in self.positions),
            cubes=tuple(_point(self._data.body(name).xpos) for name in CUBES),
            touched=frozenset(left | right),
            gripped=frozenset(left & right),
            on_plate=frozenset(on_plate),
        )

    def camera_view(self, camera: str, width: int, height: int) -> CameraView:
        """Where a camera is now, for pictures of a size in pixels."""
        placed = self._data.camera(camera)
        fovy = math.radians(float(self.model.camera(camera).fovy[0]))
        return CameraView(
            np.array(placed.xpos), np.array(placed.xmat).reshape(3, 3), fovy, width, height
        )

    def visible_share(self, camera: str, cube: str) -> float:
        """Share of a cube's middle and corners that nothing hides from a camera, 0 to 1.

        Whether they are inside of the picture is not asked.
        """
        eye = np.array(self._data.camera(camera).xpos)
        body = self._data.body(cube)
        cube_id = self.model.body(cube).id
        offsets = np.vstack([np.zeros(3), 0.9 * CUBE_HALF * _CORNERS])
        points = body.xpos + offsets @ np.array(body.xmat).reshape(3, 3).T
        geom = np.zeros(1, np.int32)
        seen = 0
        for point in points:
            mujoco.mj_ray(self.model, self._data, eye, point - eye, None, 1, -1, geom)
            seen += int(geom[0] >= 0 and self.model.geom_bodyid[geom[0]] == cube_id)
        return seen / len(points)


def _point(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z


_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
