"""gym-aloha's transfer cube: two arms, the right one takes a cube and gives it to the left one.

The physics, the starts and the reward are gym-aloha's (Zhao et al. 2023, arXiv 2304.13705), stepped
as its environment steps them: a command is held for 20 ms, then the reward is computed. Only the
pictures differ: they are drawn when the policy is asked, not at every step, and of the camera
``top`` alone, which is the one that its environment gives to policies.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np

from openpi_flash_models.robots.aloha import ALOHA
from openpi_flash_robot.play.motion import Motion
from openpi_flash_robot.run.settings_file import robot_settings
from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_training.demonstrations.pictures import Image
from openpi_flash_training.demonstrations.recording import EpisodeFrames
from openpi_flash_training.evaluation.arm_settings import SERVER
from openpi_flash_training.evaluation.conditions import Trial
from openpi_flash_training.evaluation.scene import CONTROL_TICKS, TICK_NS, Vector
from openpi_flash_training.evaluation.task_facts import ALOHA_TRANSFER_CUBE, TASK_FACTS
from sim_robot.tasks import Outcome, Progress

JOINTS = ALOHA.action_names
CAMERA, WIDTH, HEIGHT = "cam_high", 640, 480
_NEEDED = ("gym_aloha", "dm_control")


class AlohaUnavailableError(RuntimeError):
    """gym-aloha is not installed; the message says what to install."""


def check_installed() -> None:
    """Check that gym-aloha is there.

    Raises:
        AlohaUnavailableError: it is not.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise AlohaUnavailableError(
            f"{ALOHA_TRANSFER_CUBE} needs gym-aloha, {' and '.join(missing)} cannot be imported: "
            "pip install './src/openpi_flash_training[aloha]'"
        )


def aloha_settings(**changes: Any) -> NodeSettings:
    """The two arms in the words of docs/robot_parameters.md.

    The limits are wider than a real robot's: the published task has none, and the simulated servos
    have their own.
    """
    grippers = [name.endswith("gripper") for name in JOINTS]
    parameters = {
        "server": SERVER,
        "dry_run": False,
        "cameras": [CAMERA],
        "camera": {CAMERA: {"key": f"images.{CAMERA}"}},
        "joints": list(JOINTS),
        "state_key": "state",
        "gripper_joints": [name for name in JOINTS if name.endswith("gripper")],
        "gripper": {
            name: {"closed": 0.0, "open": 1.0} for name in JOINTS if name.endswith("gripper")
        },
        "max_frozen_time": 0.0,
        "max_start_delta": [2.0] * len(JOINTS),
        "max_velocity": [20.0 if is_gripper else 6.0 for is_gripper in grippers],
        "max_acceleration": [400.0 if is_gripper else 120.0 for is_gripper in grippers],
        "max_tracking_error": [0.0] * len(JOINTS),
        "position_lower": [-0.5 if is_gripper else -3.15 for is_gripper in grippers],
        "position_upper": [1.5 if is_gripper else 3.15 for is_gripper in grippers],
    }
    return robot_settings(**{**parameters, **changes})


def progress_of(progress: Progress, reward: int, seconds: float) -> Progress:
    """The progress after a step of the environment. Pure.

    Args:
        progress: before.
        reward: of the step, 0 to 4: 1 the right hand touches the cube, 2 has lifted it, 3 the left
            hand touches it, 4 holds it above the table, which is success.
        seconds: since the episode began.
    """
    stages = TASK_FACTS[ALOHA_TRANSFER_CUBE].stages
    reached = dict(progress.reached_at)
    for stage in stages[:reward]:
        reached.setdefault(stage, seconds)
    if reward < len(stages):
        return replace(progress, reached_at=reached)
    return replace(progress, reached_at=reached, outcome=Outcome.SUCCESS, ended_at=seconds)


class AlohaTransferCube:
    """gym-aloha's simulation.

    Raises:
        AlohaUnavailableError: gym-aloha is not installed.
    """

    joints = JOINTS

    def __init__(self) -> None:
        check_installed()
        from dm_control import mujoco
        from gym_aloha import utils
        from gym_aloha.constants import ASSETS_DIR, DT
        from gym_aloha.tasks import sim

        self._sim, self._sample_box_pose = sim, utils.sample_box_pose
        scene = ASSETS_DIR / "bimanual_viperx_transfer_cube.xml"
        self._physics = mujoco.Physics.from_xml_path(str(scene))
        self._task = sim.TransferCubeTask()
        assert round(DT * 1e9) == CONTROL_TICKS * TICK_NS, "gym-aloha has another control period"
        self._steps = round(TICK_NS / 1e9 / self._physics.timestep())
        self._ticks = 0

    def settings(self, **changes: Any) -> NodeSettings:
        """The two arms'."""
        return aloha_settings(**changes)

    def begin(self, trial: Trial) -> None:
        """Put the cube where gym-aloha's own generator puts it."""
        seed = int(np.random.default_rng((trial.seed, trial.index)).integers(2**31))
        self._sim.BOX_POSE[0] = self._sample_box_pose(seed)
        with self._physics.reset_context():
            self._task.initialize_episode(self._physics)
        self._ticks = 0

    def positions(self) -> Vector:
        """Of both arms and their grippers (0 closed, 1 open), [14]."""
        return np.array(self._task.get_qpos(self._physics))

    def truth(self) -> None:
        """No policy knows more than it sees."""

    def subtask(self, trial: Trial) -> None:
        """Nobody knows."""

    def pictures(self) -> dict[str, Image]:
        """From above."""
        image = self._physics.render(height=HEIGHT, width=WIDTH, camera_id="top")
        return {CAMERA: np.array(image)}

    def advance(self, motion: Motion | None, told: Vector, now: int) -> Vector:
        """Follow the motion at every control period."""
        if self._ticks % CONTROL_TICKS == 0:
            if motion is not None:
                told = motion.sample(now).positions
            self._task.before_step(told, self._physics)
        self._physics.step(self._steps)
        self._ticks += 1
        return told

    def judge(self, trial: Trial, progress: Progress) -> Progress:
        """By gym-aloha's reward, at the end of each control period."""
        del trial
        if self._ticks % CONTROL_TICKS or progress.outcome is not Outcome.RUNNING:
            return progress
        seconds = self._ticks * TICK_NS / 1e9
        return progress_of(progress, int(self._task.get_reward(self._physics)), seconds)

    def note(self, frames: EpisodeFrames, told: Vector) -> None:
        """Nothing is recorded: the labels of our datasets are of the cubes of the other scene."""
        raise NotImplementedError

    def close(self) -> None:
        """Give OpenGL back."""
        self._physics.free()
