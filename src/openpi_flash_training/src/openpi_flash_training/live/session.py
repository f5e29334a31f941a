"""Episodes in real time: a runner without ROS plays a policy on the simulated arm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.bridge.status import State, Status
from openpi_flash_robot.link.transport import PolicyConnection, open_policy
from openpi_flash_robot.run.runner import PolicyRunner
from openpi_flash_robot.settings.node_settings import LinkSettings, NodeSettings
from openpi_flash_training.demonstrations.episode import EpisodePlan
from openpi_flash_training.demonstrations.recording import DatasetRecorder, EpisodeFrames
from openpi_flash_training.evaluation.policy import PolicyFailedError
from openpi_flash_training.live.jog import Jog, press
from openpi_flash_training.live.keyboard import Keyboard
from openpi_flash_training.live.simulated_arm import SimulatedArm
from sim_robot.plant import Plant
from sim_robot.robot import CUBES, JOINTS
from sim_robot.tasks import TASKS, Outcome, Progress

LOOK_S = 0.02
"""How often keys and the outcome are looked at."""

AFTER_S = 0.5
"""How long an episode goes on after its outcome, so that a recording shows it."""


@dataclass(frozen=True)
class LivePlan:
    """What is run.

    Attributes:
        task: a name of `tasks.TASKS`.
        cube: of all episodes; None: colours take turns.
        episodes: how many.
        seed: of the starts.
        seconds: an episode's limit, simulated seconds; None: the task's.
        prompt: instead of the task's own; None: the task's.
        fps: frames per second of a recording.
        horizon: steps of the expert's chunks in a recording.
        image_size: edge of the pictures in a recording, pixels.
    """

    task: str
    cube: str | None
    episodes: int
    seed: int
    seconds: float | None = None
    prompt: str | None = None
    fps: int = 10
    horizon: int = 10
    image_size: int = 112

    @property
    def limit_s(self) -> float:
        """An episode's limit, simulated seconds."""
        return TASKS[self.task].time_limit_s if self.seconds is None else self.seconds

    def episode(self, index: int) -> EpisodePlan:
        """What episode `index` is about."""
        cube = self.cube or CUBES[index % len(CUBES)]
        return EpisodePlan(
            self.task,
            cube,
            (self.seed, index),
            self.fps,
            self.horizon,
            self.image_size,
            self.limit_s,
            noise=None,
        )


@dataclass(frozen=True)
class EpisodeEnd:
    """What became of an episode.

    Attributes:
        index: its number.
        prompt: what the policy was told.
        progress: how far it came.
        seconds: how long it took, simulated.
        intervention_s: how long a person had the arm.
        was_ended: whether a person ended it.
    """

    index: int
    prompt: str
    progress: Progress
    seconds: float
    intervention_s: float
    was_ended: bool


class LiveSession:
    """Runs episodes one after the other.

    Args:
        settings: of the runner.
        plan: what is run.
        keyboard: of the person beside it.
        recorder: None records nothing.
        connection: makes the connection to the policy of an arm; None: to the server of `settings`.
        on_status: told when the runner's state has changed.
    """

    def __init__(
        self,
        settings: NodeSettings,
        plan: LivePlan,
        keyboard: Keyboard,
        recorder: DatasetRecorder | None = None,
        *,
        connection: Callable[[SimulatedArm], PolicyConnection] | None = None,
        on_status: Callable[[Status], object] | None = None,
    ) -> None:
        self._settings, self._plan, self._keyboard = settings, plan, keyboard
        self._recorder, self._connection, self._on_status = recorder, connection, on_status
        self._jog = Jog()
        self._frames: EpisodeFrames | None = None

    def run(self) -> Iterator[EpisodeEnd]:
        """Play every episode, until a person ends the run.

        Raises:
            PolicyFailedError: the runner has come to a fault, which only another setting ends.
        """
        arm = SimulatedArm(self._note)
        try:
            for index in range(self._plan.episodes):
                yield self._episode(arm, index)
                if self._jog.wants_end:
                    return
        finally:
            arm.close()

    def _episode(self, arm: SimulatedArm, index: int) -> EpisodeEnd:
        plan = self._plan.episode(index)
        prompt = self._plan.prompt or plan.prompt
        self._jog = Jog()
        arm.begin(self._plan.seed, index, TASKS[plan.task], plan.cube)
        self._frames = EpisodeFrames(plan, prompt) if self._recorder is not None else None
        taken_s, until, last = 0.0, None, time.monotonic()
        with PolicyRunner(
            arm,
            self._settings,
            open_policy=self._opener(arm),
            on_status=self._on_status,
        ) as runner:
            runner.set_prompt(prompt)
            while not self._jog.wants_next and arm.seconds < self._plan.limit_s:
                time.sleep(LOOK_S)
                now = time.monotonic()
                taken_s += (now - last) if self._jog.is_taken else 0.0
                last = now
                self._take_keys(arm, runner)
                _raise_fault(runner.status)
                if arm.progress.outcome is not Outcome.RUNNING:
                    until = arm.seconds + AFTER_S if until is None else until
                    if arm.seconds >= until:
                        break
            progress, seconds = arm.progress, arm.seconds
        frames, self._frames = self._frames, None
        if self._recorder is not None and frames is not None:
            self._recorder.add(frames, progress.outcome, interventions=taken_s > 0)
        return EpisodeEnd(index, prompt, progress, seconds, taken_s, self._jog.wants_next)

    def _opener(self, arm: SimulatedArm) -> Callable[[LinkSettings], PolicyConnection]:
        connection = self._connection
        if connection is None:
            return open_policy
        return lambda _: connection(arm)

    def _take_keys(self, arm: SimulatedArm, runner: PolicyRunner) -> None:
        before = self._jog
        for key in self._keyboard.typed():
            state = arm.state()
            self._jog = press(self._jog, key, state.hand, state.grip)
        target = self._jog.joints()
        if target is not None:
            runner.hear_takeover(True)
            runner.hear_target(JOINTS, target)
        elif before.is_taken:
            runner.hear_takeover(False)

    # --- the thread of physics ---

    def _note(self, plant: Plant, command: NDArray[np.float64]) -> None:
        frames = self._frames
        if frames is not None:
            frames.note(plant, command, is_intervention=self._jog.is_taken)


def _raise_fault(status: Status) -> None:
    if status.condition.state is State.FAULT:
        raise PolicyFailedError(status.condition.message)
