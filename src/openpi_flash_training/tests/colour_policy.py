"""A policy that sees: it finds each cube by its colour in the scene camera, and asks the expert.

Served as `python:colour_policy:ColourPolicy`, it shows that pictures, prompts, joints and chunks
arrive as they should: nothing else tells it where the cubes are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from openpi_flash_training.demonstrations.expert import chunk
from sim_robot.plant import Plant
from sim_robot.robot import CUBE_HALF, CUBES, JOINTS, TABLE_Z
from sim_robot.scene_state import SceneState
from sim_robot.tasks import TASKS

SIZE = 224
RATE_HZ, HORIZON = 10, 10


class ColourPolicy:
    """Answers with the expert's chunk for the cube that the prompt names."""

    def __init__(self) -> None:
        camera = {"kind": "image", "shape": [SIZE, SIZE, 3]}
        self.metadata = {
            "inputs": [
                {"path": ["observation/scene_image"], **camera},
                {"path": ["observation/wrist_image"], **camera},
                {
                    "path": ["observation/state"],
                    "kind": "joints",
                    "shape": [len(JOINTS)],
                    "names": JOINTS,
                    "units": ["rad"] * 6 + ["1"],
                },
                {"path": ["prompt"], "kind": "text"},
            ],
            "actions": [
                *({"name": name} for name in JOINTS[:-1]),
                {"name": JOINTS[-1], "interface": "gripper", "unit": "1"},
            ],
            "action_rate_hz": RATE_HZ,
            "action_horizon": HORIZON,
        }
        self._view = Plant().camera_view("scene", SIZE, SIZE * 3 // 4)
        self.reset()

    def reset(self) -> None:
        """Forgets where cubes were: so it is for one episode at a time."""
        self._seen: dict[str, tuple[float, float, float]] = {}
        self._pixels: dict[str, int] = {}

    def infer(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The chunk [10, 7]."""
        self._look(np.asarray(observation["observation/scene_image"]))
        prompt = str(observation["prompt"])
        joints = tuple(float(value) for value in observation["observation/state"])
        cubes = tuple(self._seen.get(cube, (0.33, 0.0, 0.024)) for cube in CUBES)
        for task in TASKS.values():
            for cube in CUBES:
                if task.prompt(cube) == prompt:
                    state = SceneState(0.0, joints, cubes)
                    return {
                        "actions": chunk(task, cube, state, horizon=HORIZON, step_s=1.0 / RATE_HZ)
                    }
        return {"actions": np.tile(joints, (HORIZON, 1))}  # the server's warm-up

    def _look(self, picture: np.ndarray) -> None:
        height = SIZE * 3 // 4
        rows = picture[(SIZE - height) // 2 :][:height].astype(int)
        for index, cube in enumerate(CUBES):
            others = np.delete(rows, index, axis=2).max(axis=2)
            # the arm has orange parts, which are less red
            found = np.argwhere((rows[:, :, index] > 60) & (others < 0.5 * rows[:, :, index]))
            # a cube that the arm hides stays where it was seen best
            if len(found) > self._pixels.get(cube, 0):
                self._pixels[cube] = len(found)
                self._seen[cube] = self._on_table(found.mean(axis=0))

    def _on_table(self, pixel: np.ndarray) -> tuple[float, float, float]:
        view = self._view
        focal = view.height / (2 * np.tan(view.fovy / 2))
        right = (pixel[1] - (view.width - 1) / 2) / focal
        down = (pixel[0] - (view.height - 1) / 2) / focal
        ray = view.axes @ np.array([right, -down, -1.0])
        z = CUBE_HALF + TABLE_Z
        x, y, _ = view.position + ray * (z - view.position[2]) / ray[2]
        return float(x), float(y), z
