"""Tables of v2.1: tasks, episodes and their statistics as lines of JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openpi_flash_training.dataset.episode_table import EpisodeRow, VideoPlace
from openpi_flash_training.dataset.feature_stats import to_lists
from openpi_flash_training.dataset.info import DatasetInfo
from openpi_flash_training.dataset.layout import (
    V21_EPISODES,
    V21_EPISODES_STATS,
    V21_TASKS,
    FilePlace,
    read_json_lines,
    write_json_lines,
)
from openpi_flash_training.episodes.error import DataError


def write_v21_tasks(folder: Path, tasks: Sequence[str]) -> None:
    """Write the tasks; their order is their index."""
    lines = ({"task_index": i, "task": task} for i, task in enumerate(tasks))
    write_json_lines(folder / V21_TASKS, lines)


def read_v21_tasks(folder: Path) -> tuple[str, ...]:
    """The tasks by index.

    Raises:
        DataError: the file is missing or malformed.
    """
    path = folder / V21_TASKS
    try:
        tasks = {int(line["task_index"]): str(line["task"]) for line in read_json_lines(path)}
        return tuple(tasks[index] for index in range(len(tasks)))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(path, f"is malformed: {error!r}") from error


def write_v21_episodes(folder: Path, rows: Sequence[EpisodeRow], kept: int) -> None:
    """Write episodes and their statistics behind those that are there.

    Args:
        folder: of the dataset.
        rows: new episodes.
        kept: number of episodes before them; lines beyond are those of an interrupted writer.
    """
    episodes = _kept(folder / V21_EPISODES, kept)
    stats = _kept(folder / V21_EPISODES_STATS, kept)
    for row in rows:
        facts = {"episode_index": row.index, "tasks": list(row.tasks), "length": row.length}
        episodes.append({**facts, **row.facts})
        kept_stats = {
            key: {name: value for name, value in feature.items() if not name.startswith("q")}
            for key, feature in to_lists(row.stats).items()
        }
        stats.append({"episode_index": row.index, "stats": kept_stats})
    write_json_lines(folder / V21_EPISODES, episodes)
    write_json_lines(folder / V21_EPISODES_STATS, stats)


def read_v21_episodes(folder: Path, info: DatasetInfo) -> tuple[EpisodeRow, ...]:
    """All episodes.

    Raises:
        DataError: the file is missing or malformed, or an episode is missing.
    """
    path = folder / V21_EPISODES
    lines = {line.get("episode_index"): line for line in read_json_lines(path)}
    rows, start = [], 0
    for index in range(info.episodes):
        line = lines.get(index)
        if line is None:
            raise DataError(path, f"has no line of this episode, of {info.episodes}", index)
        try:
            length, tasks = int(line["length"]), tuple(map(str, line["tasks"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(path, f"is malformed: {error!r}", index) from error
        # each episode has a file of its own
        place = FilePlace(index // info.files_in_chunk, index % info.files_in_chunk)
        video = VideoPlace(place, 0.0, length / info.fps)
        known = ("episode_index", "length", "tasks")
        facts = {
            name: value
            for name, value in line.items()
            if name not in known and isinstance(value, str | int | float | bool)
        }
        videos = dict.fromkeys(info.video_keys, video)
        rows.append(EpisodeRow(index, length, tasks, place, start, videos, facts=facts))
        start += length
    return tuple(rows)


def _kept(path: Path, count: int) -> list[dict[str, object]]:
    if not path.exists():
        return []
    return [line for line in read_json_lines(path) if line["episode_index"] < count]
