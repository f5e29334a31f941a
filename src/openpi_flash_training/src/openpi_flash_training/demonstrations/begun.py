"""Whether a dataset of demonstrations was begun with the options that it is to go on with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openpi_flash_training.dataset.episode_table import Fact
from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.demonstrations.columns import CHUNKS, features, image_column
from openpi_flash_training.demonstrations.episode import EpisodePlan
from openpi_flash_training.demonstrations.plans import DatasetPlan
from openpi_flash_training.episodes.error import DataError
from sim_robot.robot import CAMERAS

_SEED, _TASK, _SECONDS, _NOISE = "seed", "task_name", "seconds", "noise"
_OPTIONS = {_SEED: "--seed", _TASK: "--task", _SECONDS: "--seconds", _NOISE: "--no-noise"}
"""Who chose the fact of an episode."""


def facts_of(plan: DatasetPlan, episode: EpisodePlan) -> dict[str, Fact]:
    """What an episode keeps of the options that it was made with."""
    return {
        _SEED: plan.seed,
        _TASK: episode.task,
        _SECONDS: episode.seconds,
        _NOISE: plan.noise is not None,
    }


def check_begun(plan: DatasetPlan, writer: DatasetWriter) -> None:
    """Refuse to go on with a dataset that another plan has begun.

    A fact that its episodes do not keep is not compared.

    Args:
        plan: of the episodes that are to come.
        writer: of the dataset.

    Raises:
        DataError: names the first option that differs, and both values.
    """
    for option, theirs, ours in _compared(plan, writer):
        if theirs != ours:
            raise DataError(
                writer.folder,
                f"{option} was {_said(option, theirs)} when it was begun, and is "
                f"{_said(option, ours)} now; give the same options, or choose another folder",
            )


def _compared(plan: DatasetPlan, writer: DatasetWriter) -> Iterator[tuple[str, Any, Any]]:
    """Options, with the dataset's values and the plan's."""
    columns = writer.info.features
    missing = [key for key in features(plan.image_size, plan.horizon) if key not in columns]
    if missing:
        raise DataError(writer.folder, f"is none of demonstrations: it lacks {missing[0]}")
    yield "--fps", writer.info.fps, plan.fps
    yield "--horizon", columns[CHUNKS].shape[1], plan.horizon
    yield "--image-size", columns[image_column(CAMERAS[0])].shape[0], plan.image_size
    for index, facts in enumerate(writer.episode_facts()):
        for name, ours in facts_of(plan, plan.episode(index)).items():
            yield _OPTIONS[name], facts.get(name, ours), ours


def _said(option: str, value: Any) -> str:
    if option == _OPTIONS[_NOISE]:
        return "absent" if value else "given"
    return str(value)
