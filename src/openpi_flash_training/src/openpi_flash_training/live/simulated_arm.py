"""The simulated arm as a robot of `openpi_flash_robot.plain`: physics and cameras in real time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.run.robot import Reading
from openpi_flash_robot.run.steady_thread import SteadyThread
from openpi_flash_training.demonstrations.pictures import Image
from sim_robot.camera_worker import CameraWorker
from sim_robot.plant import Plant
from sim_robot.scene_state import SceneState
from sim_robot.starts import spread
from sim_robot.tasks import Outcome, Progress, Task, judge

PERIOD_NS = 10_000_000
"""Between two bursts of physics."""

MOST_S = 0.1
"""Simulated seconds that are caught up at once: a machine that stood still does not hurry."""


class SimulatedArm:
    """Has its own clock of physics. Its methods may be called from any thread.

    Args:
        on_step: told of the plant and the command after each step of physics: it must be quick, and
            must not keep the plant.

    Raises:
        RenderingUnavailableError: there is no OpenGL to draw with.
    """

    def __init__(
        self, on_step: Callable[[Plant, NDArray[np.float64]], object] | None = None
    ) -> None:
        self._plant = Plant()
        self._lock = threading.Lock()
        self._on_step = on_step
        self._told = np.array(self._plant.positions)
        self._velocities = np.zeros_like(self._told)
        self._told_at = 0.0
        self._task: tuple[Task, str] | None = None
        self._progress = Progress()
        self._last = time.monotonic()
        self._drawn: queue.Queue[dict[str, Image]] = queue.Queue()
        self._cameras = CameraWorker(self._plant.model, lambda _, images: self._drawn.put(images))
        self._cameras.start()
        self._thread = SteadyThread("physics", PERIOD_NS, self._advance)
        self._thread.start()

    def begin(self, seed: int, index: int, task: Task, cube: str) -> None:
        """Begin an episode: a start, and what is judged."""
        with self._lock:
            self._plant.place(spread(np.random.default_rng((seed, index))))
            self._told = np.array(self._plant.positions)
            self._velocities = np.zeros_like(self._told)
            self._task, self._progress = (task, cube), Progress()
            self._last = time.monotonic()

    @property
    def progress(self) -> Progress:
        """How far the episode has come."""
        return self._progress

    @property
    def seconds(self) -> float:
        """Simulated seconds of this episode."""
        return self._plant.time

    def state(self) -> SceneState:
        """What is true in the scene."""
        with self._lock:
            return self._plant.state()

    # --- what the runner needs ---

    def read(self) -> Reading:
        """The joints."""
        with self._lock:
            return Reading(self._plant.positions, stamp=time.monotonic())

    def read_images(self) -> dict[str, Image]:
        """What both cameras see; for one thread at a time."""
        with self._lock:
            snapshot = self._plant.snapshot()
        self._cameras.draw(snapshot)
        while True:
            try:
                return self._drawn.get(timeout=1.0)
            except queue.Empty:  # a busy machine, or a camera that has failed
                self._cameras.check()

    def command(self, positions: NDArray[np.float64], velocities: NDArray[np.float64]) -> None:
        """Be there now."""
        with self._lock:
            self._told, self._velocities = np.array(positions), np.array(velocities)
            self._told_at = self._plant.time

    def close(self) -> None:
        """End physics and cameras."""
        self._thread.close(5.0)
        self._cameras.stop()

    def _advance(self, _: int) -> bool:
        with self._lock:
            plant, now = self._plant, time.monotonic()
            steps = int(min(now - self._last, MOST_S) / plant.timestep)
            self._last = (
                now
                if steps * plant.timestep >= MOST_S - plant.timestep
                else (self._last + steps * plant.timestep)
            )
            for _ in range(steps):
                # a command is a place and a speed: between two the arm goes on, for a moment
                ahead = min(plant.time + plant.timestep - self._told_at, 2 * PERIOD_NS / 1e9)
                plant.command(self._told + self._velocities * ahead, self._velocities)
                plant.step()
                if self._on_step is not None:
                    self._on_step(plant, self._told)
            if self._task is not None and self._progress.outcome is Outcome.RUNNING:
                self._progress = judge(*self._task, self._progress, plant.state())
        return True
