"""One episode of a policy on the simulated robot, in simulated time.

The robot's own request schedule and chunk player decide, as in `openpi_flash_robot.bridge`. Policy
and network take the time that the conditions give them, whatever they take in truth: the same
policy, seed and conditions give the same episode on any machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.bridge.request_schedule import RequestSchedule
from openpi_flash_robot.play.chunk import Chunk
from openpi_flash_robot.play.chunk_player import ChunkPlayer
from openpi_flash_robot.play.motion import Motion
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.senses.frames import FrameSet
from openpi_flash_robot.senses.joints import JointReading
from openpi_flash_robot.senses.observation import Observation
from openpi_flash_robot.senses.states import StateReading
from openpi_flash_robot.settings.node_settings import NodeSettings, PlayerSettings
from openpi_flash_training.demonstrations.episode import EpisodePlan
from openpi_flash_training.demonstrations.pictures import Image
from openpi_flash_training.demonstrations.recording import EpisodeFrames
from openpi_flash_training.evaluation.conditions import IGNORE_DELAY, STOP_AND_GO, Trial
from openpi_flash_training.evaluation.motion_log import MotionLog
from openpi_flash_training.evaluation.policy import Policy, Query
from openpi_flash_training.evaluation.scene import (
    CONTROL_TICKS,
    MS,
    TICK_NS,
    CubeScene,
    Scene,
    Vector,
)
from openpi_flash_training.evaluation.task_facts import TASK_FACTS
from openpi_flash_training.evaluation.trial_result import TrialResult
from openpi_flash_training.evaluation.virtual_network import VirtualNetwork
from sim_robot.tasks import Outcome, Progress

BEGIN_NS = 1_000 * MS
"""When the episode begins on the player's clock, which does not know a time 0."""
FILM_TICKS = 8
"""Ticks between two pictures of a film."""


class Camera(Protocol):
    """Makes a film of an episode."""

    def shoot(self, images: dict[str, Image], trial: Trial, progress: Progress) -> None:
        """One more picture."""

    def develop(self) -> bytes:
        """The film as a file; the next one begins empty."""


class ClosedLoop:
    """A scene and a policy. Make and use it in one thread.

    Args:
        policy: what is measured.
        camera: makes films; None for none.
        scene: what the policy moves; None: the simulated arm with its cubes.
    """

    def __init__(
        self, policy: Policy, camera: Camera | None = None, scene: Scene | None = None
    ) -> None:
        self._policy = policy
        self._scene = CubeScene() if scene is None else scene
        self._camera = camera

    def run(self, trial: Trial) -> TrialResult:
        """Play an episode to its end.

        Raises:
            PolicyFailedError: the policy cannot be asked.
        """
        self._scene.begin(trial)
        self._policy.reset()
        episode = _Episode(self, trial)
        return episode.run()

    @property
    def policy(self) -> Policy:
        """What is measured."""
        return self._policy

    @property
    def scene(self) -> Scene:
        """What the policy moves."""
        return self._scene

    @property
    def camera(self) -> Camera | None:
        """Makes films."""
        return self._camera

    def close(self) -> None:
        """Give OpenGL and the policy back."""
        self._scene.close()
        self._policy.close()


class _Episode:
    """What changes while an episode is played."""

    def __init__(self, loop: ClosedLoop, trial: Trial) -> None:
        self._loop, self._trial = loop, trial
        given = trial.conditions
        agreement = loop.policy.agreement
        self._step_ns = agreement.step_ns
        self._grippers = tuple(axis.is_gripper for axis in agreement.axes)
        self._arm = np.flatnonzero(~np.array(self._grippers))
        self._horizon = max(1, round(given.execution_s * 1e9 / self._step_ns))
        self._settings = player_settings(
            given.method, agreement.horizon, self._step_ns, loop.scene.settings
        )
        self._settings = replace(self._settings, execution_horizon=self._horizon)
        self._player = ChunkPlayer(loop.scene.joints, self._settings)
        self._schedule: RequestSchedule[object] = RequestSchedule()
        # not the starts' generator: the same start is tried under other networks
        self._network = VirtualNetwork(
            given, np.random.default_rng((trial.seed, trial.index, 1, int(trial.is_swapped)))
        )
        self._log = MotionLog(CONTROL_TICKS * TICK_NS / 1e9)
        self._told = loop.scene.positions()
        self._sending: Motion | None = None
        self._answer: tuple[int, int, NDArray[np.float64]] | None = None  # arrival, observed
        self._sequence = self._holds = self._said = self._agreed = 0
        self._was_playing = False
        self._frames = EpisodeFrames(recording_plan(trial)) if trial.is_recorded else None
        self.progress = Progress()

    def run(self) -> TrialResult:
        """Play to the end."""
        loop, trial, task = self._loop, self._trial, TASK_FACTS[self._trial.task]
        ticks = round(task.time_limit_s * 1e9 / TICK_NS)
        for tick in range(ticks):
            now = BEGIN_NS + tick * TICK_NS
            if trial.is_filmed and loop.camera is not None and tick % FILM_TICKS == 0:
                loop.camera.shoot(loop.scene.pictures(), trial, self.progress)
            if self._answer is not None and self._answer[0] <= now:
                self._take_answer(now)
            self._player.step(now)
            is_playing = self._player.plan is not None
            self._holds += self._was_playing and not is_playing and not self._stops
            self._was_playing = is_playing
            if self._is_due(now):
                self._ask(now)
            if self._frames is not None:
                loop.scene.note(self._frames, self._told)
            if tick % CONTROL_TICKS == 0:
                self._sending = None if self._network.is_held() else self._player.motion
                still = np.zeros(len(self._arm))
                sent = self._sending
                self._log.command(still if sent is None else sent.sample(now).velocities[self._arm])
            self._told = loop.scene.advance(self._sending, self._told, now)
            self.progress = loop.scene.judge(trial, self.progress)
            if self.progress.outcome is not Outcome.RUNNING:
                break
        jerk, border_jerk = self._log.jerks()
        ended = self.progress.ended_at
        film = b""
        if trial.is_filmed and loop.camera is not None:
            loop.camera.shoot(loop.scene.pictures(), trial, self.progress)
            film = loop.camera.develop()
        return TrialResult(
            trial=trial,
            outcome=self.progress.outcome,
            chosen=self.progress.chosen,
            reached_at=self.progress.reached_at,
            seconds=task.time_limit_s if ended is None else ended,
            rms_jerk=jerk,
            border_jerk=border_jerk,
            requests=self._sequence,
            holds=self._holds,
            film=film,
            frames=self._frames,
            subtasks_said=self._said,
            subtasks_agreed=self._agreed,
        )

    @property
    def _stops(self) -> bool:
        return self._trial.conditions.method == STOP_AND_GO

    def _is_due(self, now: int) -> bool:
        if self._stops:
            is_standing = self._player.plan is None and not self._player.is_moving(now)
            return is_standing and not self._schedule.is_in_flight
        player = self._player
        return self._schedule.is_due(
            now, player.plan, self._horizon, player.lead_ns, player.takeover_ns
        )

    def _ask(self, now: int) -> None:
        loop, trial = self._loop, self._trial
        joints = loop.scene.positions()
        continuation = None
        if "rtc" in loop.policy.agreement.supports:
            continuation = self._player.continuation(
                now, now + self._schedule.expected_ns + self._player.lead_ns, self._horizon
            )
        request = self._schedule.send(now, _observation(now, joints, trial.prompt))
        self._sequence = request.request_id
        reply = loop.policy.answer(
            Query(
                images=loop.scene.pictures() if loop.policy.needs_images else {},
                joints=joints,
                prompt=trial.prompt,
                continuation=continuation,
                seed=(trial.seed * 1_000_003 + trial.index * 1_009 + self._sequence) % 2**31,
                scene=loop.scene.truth(),
                task=trial.task,
            )
        )
        wanted = loop.scene.subtask(trial)
        if reply.subtask is not None and wanted is not None:
            self._said += 1
            self._agreed += reply.subtask.strip() == wanted
        self._answer = now + max(self._network.exchange_ns(), 1), now, reply.actions

    def _take_answer(self, now: int) -> None:
        assert self._answer is not None
        _, observed, actions = self._answer
        self._answer = None
        self._schedule.finish(now, self._sequence, is_answered=True)
        player, was_playing = self._player, self._player.plan is not None
        if self._stops:  # so many steps and no more
            played_ns = player.lead_ns + self._horizon * self._step_ns
            player.update_settings(
                replace(self._settings, max_chunk_age_ns=now - observed + played_ns)
            )
        is_ignorant = self._trial.conditions.method == IGNORE_DELAY
        outcome = player.accept(
            Chunk(
                actions=actions,
                step_ns=self._step_ns,
                observation_ns=now if is_ignorant else observed,
                sequence=self._sequence,
                grippers=self._grippers,
            ),
            now=now,
            measured=self._loop.scene.positions(),
        )
        if isinstance(outcome, Plan):
            if was_playing:
                self._log.border()
        elif outcome is None:  # of before the arm came to hold
            self._schedule.ask_at_once()
        else:
            self._schedule.retry_later(now)


def player_settings(
    method: str, horizon: int | None, step_ns: int, settings: Callable[..., NodeSettings]
) -> PlayerSettings:
    """The chunk player's settings of a robot for a method; a chunk may be played to its end."""
    plain = "latest" if method in (STOP_AND_GO, IGNORE_DELAY) else method
    changes = {} if horizon is None else {"max_chunk_age": horizon * step_ns / 1e9}
    return settings(chunk_method=plain, **changes).player


def recording_plan(trial: Trial) -> EpisodePlan:
    """What is recorded of a trial: as demonstrations are by default."""
    return EpisodePlan(trial.task, trial.cube, (trial.seed, trial.index), noise=None)


def _observation(now: int, joints: Vector, prompt: str) -> Observation[object]:
    frames: FrameSet[object] = FrameSet({}, now, now)
    return Observation(frames, JointReading(joints, now), StateReading({}, now), prompt)
