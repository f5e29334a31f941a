"""The physics: MuJoCo stepped by whoever owns the clock. No ROS, no clock, no pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from sim_robot.robot import CUBES, HOME, JOINTS, LOWER_LIMITS, UPPER_LIMITS, Vector

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
        """Put the arm at home and the cubes near their places, moved a little by the seed."""
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
        self._place_cubes(np.random.default_rng(seed))
        self._data.qpos[self._hinge_qpos] = HOME[:-1]
        self._data.qpos[self._finger_qpos] = HOME[-1] * self._finger_travel
        self.command(np.array(HOME), np.zeros(len(JOINTS)))
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

    def _place_cubes(self, rng: np.random.Generator) -> None:
        for name in CUBES:
            address = int(self.model.joint(name).qposadr[0])
            turn = rng.uniform(-np.pi / 4, np.pi / 4)
            self._data.qpos[address : address + 2] += rng.uniform(-_CUBE_SPREAD, _CUBE_SPREAD, 2)
            self._data.qpos[address + 3 : address + 7] = [np.cos(turn / 2), 0, 0, np.sin(turn / 2)]


_CUBE_SPREAD = 0.02
"""Metres; less than half the smallest gap between two cubes' places, so that none overlap."""
