"""Plays trials in worker processes, each with its own plant, cameras and connection."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_training.evaluation.aloha_transfer_cube import AlohaTransferCube, aloha_settings
from openpi_flash_training.evaluation.arm_settings import arm_settings
from openpi_flash_training.evaluation.closed_loop import ClosedLoop
from openpi_flash_training.evaluation.conditions import Trial
from openpi_flash_training.evaluation.film import EpisodeCamera
from openpi_flash_training.evaluation.policy import ExpertPolicy, Policy, PolicyFailedError
from openpi_flash_training.evaluation.scene import CubeScene, Scene
from openpi_flash_training.evaluation.served_policy import ServedPolicy, ServerChoice
from openpi_flash_training.evaluation.task_facts import ALOHA_TRANSFER_CUBE
from openpi_flash_training.evaluation.trial_result import TrialResult
from openpi_flash_training.parent_process import end_with_parent
from sim_robot.gl_backend import choose_gl_backend

PolicyChoice = ServerChoice | None
"""A server, or None for the scripted expert."""


def open_choice(
    choice: PolicyChoice, settings: Callable[..., NodeSettings] = arm_settings
) -> Policy:
    """The policy.

    Args:
        choice: which.
        settings: of the robot that it is to move.

    Raises:
        PolicyFailedError: the server cannot be used.
    """
    return ExpertPolicy() if choice is None else ServedPolicy(choice, os.environ, settings)


def open_scene(task: str) -> Scene:
    """The simulation of a task.

    Raises:
        AlohaUnavailableError: it is gym-aloha's, which is not installed.
    """
    return AlohaTransferCube() if task == ALOHA_TRANSFER_CUBE else CubeScene()


def name_of(choice: PolicyChoice, task: str) -> str:
    """What a policy is, for people.

    Raises:
        PolicyFailedError: the server cannot be used.
    """
    policy = open_choice(choice, _settings_of(task))
    policy.close()
    agreement = policy.agreement
    return " ".join(word for word in (agreement.model, agreement.checkpoint) if word) or "a policy"


def run_trials(
    choice: PolicyChoice,
    trials: Sequence[Trial],
    *,
    workers: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> list[TrialResult]:
    """Play every trial; results are in the order of the trials, however many workers there are.

    Args:
        choice: the policy.
        trials: what to try, in one scene.
        workers: processes.
        progress: told how many are done.

    Raises:
        PolicyFailedError: the policy cannot be asked.
        RenderingUnavailableError: there is no OpenGL to draw with.
    """
    if choice is not None or any(trial.is_filmed for trial in trials):
        os.environ["MUJOCO_GL"] = choose_gl_backend()
    # not forked: MuJoCo's OpenGL and the threads of a connection do not survive it
    context = multiprocessing.get_context("spawn")
    results = []
    with ProcessPoolExecutor(
        min(workers, max(len(trials), 1)),
        mp_context=context,
        initializer=_begin_worker,
        initargs=(choice,),
    ) as pool:
        try:
            for result in pool.map(_run, trials):
                results.append(result)
                progress(len(results))
        except BrokenProcessPool as error:
            raise PolicyFailedError("a worker process was killed") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return results


def _settings_of(task: str) -> Callable[..., NodeSettings]:
    return aloha_settings if task == ALOHA_TRANSFER_CUBE else arm_settings


class _Worker:
    """What a worker process has."""

    loop: ClosedLoop | None = None
    choice: PolicyChoice = None


def _begin_worker(choice: PolicyChoice) -> None:
    end_with_parent()
    _Worker.choice = choice


def _run(trial: Trial) -> TrialResult:
    # opened here: an error while a worker begins would only be a broken pool
    if _Worker.loop is None:
        scene = open_scene(trial.task)
        _Worker.loop = ClosedLoop(
            open_choice(_Worker.choice, scene.settings), EpisodeCamera(), scene
        )
    return _Worker.loop.run(trial)
