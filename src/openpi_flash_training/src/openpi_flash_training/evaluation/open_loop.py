"""How far a policy's chunks are from a dataset's, by column and step; nothing moves.

A small error does not make a good policy, but a large one shows early that something is wrong:
another normalization, another camera, another order of joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openpi_flash_models.robots.sim_arm import SIM_ARM
from openpi_flash_training.dataset.columns import find_columns
from openpi_flash_training.dataset.reader import Dataset, Episode
from openpi_flash_training.demonstrations.columns import CHUNKS
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.evaluation.plots import errors_png
from openpi_flash_training.evaluation.policy import Query
from openpi_flash_training.evaluation.policy_choice import PolicyChoice, open_choice
from openpi_flash_training.evaluation.report import Section, image, page, table
from sim_robot.robot import CAMERAS, CUBES, JOINTS
from sim_robot.scene_state import SceneState
from sim_robot.tasks import TASKS

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OpenLoopErrors:
    """Of a policy on a dataset.

    Attributes:
        dataset: its folder.
        frames: how many observations were asked about.
        source: the column that was compared with.
        step_s: seconds between the steps of a chunk.
        names: of the columns.
        mean: absolute error, mean over the frames, [steps, columns], rad and the gripper's share.
        still: the same of a policy that stays where it is: what there is to gain.
    """

    dataset: str
    frames: int
    source: str
    step_s: float
    names: tuple[str, ...]
    mean: Array
    still: Array


def measure_errors(choice: PolicyChoice, folder: Path, frames: int) -> OpenLoopErrors:
    """Ask a policy about frames of a dataset, evenly spread.

    Datasets of demonstrations have the expert's chunk at each frame; of others, the actions of the
    frames that follow are the chunk.

    Args:
        choice: the policy.
        folder: of a LeRobot dataset of the simulated arm.
        frames: how many at most.

    Raises:
        DataError: it has no such columns, no frame, or another rate than the policy.
        PolicyFailedError: the policy cannot be asked.
    """
    dataset = Dataset.open(folder)
    if not dataset.frames:
        raise DataError(folder, "has no frame to ask about")
    columns = find_columns(folder, SIM_ARM, dataset.features, {})
    cameras = {name: columns.cameras[(f"observation/{name}_image",)] for name in CAMERAS}
    (state,) = columns.state
    policy = open_choice(choice)
    try:
        step_s = policy.agreement.step_ns / 1e9
        if abs(step_s * dataset.fps - 1) > 1e-3:
            raise DataError(
                folder,
                f"has {dataset.fps} frames a second, and the policy's chunks {1 / step_s:g} steps",
            )
        is_expert = CHUNKS in dataset.features
        errors, still = [], []
        for episode, frame in _spread_out(dataset, frames):
            index = episode.index
            numbers = dataset.numbers(index)
            prompt = dataset.prompts(index)[frame]
            truth = np.asarray(
                numbers[CHUNKS][frame, _cube(folder, episode, prompt)]
                if is_expert
                else numbers[columns.action][frame:],
                np.float64,
            )
            joints = np.asarray(numbers[state.column][frame], np.float64)
            # the frame before was another moment, perhaps of another episode
            policy.reset()
            reply = policy.answer(
                Query(
                    images={
                        name: dataset.images(index, column, [frame])[0]
                        for name, column in cameras.items()
                    },
                    joints=joints,
                    prompt=prompt,
                    continuation=None,
                    seed=frame,
                    scene=SceneState(0.0, tuple(joints), ()),
                    task="",
                )
            )
            steps = len(reply.actions)
            errors.append(_difference(truth, reply.actions, steps))
            still.append(_difference(truth, joints, steps))
    finally:
        policy.close()
    steps = int(np.isfinite(np.array(errors)).any(axis=(0, 2)).sum())
    return OpenLoopErrors(
        dataset=str(folder),
        frames=len(errors),
        source=CHUNKS if is_expert else columns.action,
        step_s=step_s,
        names=JOINTS,
        mean=np.nanmean(np.array(errors)[:, :steps], axis=0),
        still=np.nanmean(np.array(still)[:, :steps], axis=0),
    )


def _difference(truth: Array, actions: Array, steps: int) -> Array:
    """Absolute difference [steps, columns]; NaN beyond the end of the truth."""
    found = np.full((steps, truth.shape[1]), np.nan)
    known = min(len(truth), steps)
    found[:known] = np.abs(truth[:known] - (actions if actions.ndim == 1 else actions[:known]))
    return found


def _spread_out(dataset: Dataset, frames: int) -> list[tuple[Episode, int]]:
    all_frames = [(e, frame) for e in dataset.episodes for frame in range(e.length)]
    chosen = np.linspace(0, len(all_frames) - 1, min(frames, len(all_frames)))
    return [all_frames[int(index)] for index in np.unique(chosen.astype(np.int64))]


def _cube(folder: Path, episode: Episode, prompt: str) -> int:
    """Index of the cube that a prompt names, or that the episode is about."""
    for task in TASKS.values():
        for index, cube in enumerate(CUBES):
            if task.prompt(cube) == prompt:
                return index
    about = episode.facts.get("cube")
    if about in CUBES:
        return CUBES.index(str(about))
    known = ", ".join(task.prompt(cube) for task in TASKS.values() for cube in CUBES)
    raise DataError(
        folder,
        f"has the prompt {prompt!r}, which is none of a task's, and names no cube; known are "
        f"{known}",
        episode.index,
    )


def text(errors: OpenLoopErrors) -> list[str]:
    """The errors as lines: a row for each step."""
    lines = [
        f"{errors.frames} frames of {errors.dataset}, against {errors.source}",
        "mean absolute error; in brackets that of standing still",
        "time/s  " + "".join(f"{name:>18}" for name in errors.names),
    ]
    for step, (row, still) in enumerate(zip(errors.mean, errors.still, strict=True)):
        cells = "".join(f"{a:>9.4f} ({b:.4f})" for a, b in zip(row, still, strict=True))
        lines.append(f"{step * errors.step_s:<8.2f}{cells}")
    return lines


def as_json(errors: OpenLoopErrors) -> dict[str, Any]:
    """The errors for programs."""
    return {
        "dataset": errors.dataset,
        "frames": errors.frames,
        "source": errors.source,
        "step_s": errors.step_s,
        "names": list(errors.names),
        "mean": errors.mean.tolist(),
        "still": errors.still.tolist(),
    }


def errors_page(errors: OpenLoopErrors, command: str) -> str:
    """The errors as an HTML file."""
    rows = [
        (f"{step * errors.step_s:.2f}", *(f"{value:.4f}" for value in row))
        for step, row in enumerate(errors.mean)
    ]
    plot = image(errors_png(errors.mean.tolist(), errors.names, errors.step_s), "error by time")
    return page(
        f"Open-loop error on {errors.dataset}",
        command,
        [
            Section(f"{errors.frames} frames, against {errors.source}", plot),
            Section("Mean absolute error", table(("time, s", *errors.names), rows)),
        ],
    )
