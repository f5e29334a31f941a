"""Staged episodes: whole, but not yet in the dataset's files.

    .staged/episode-000007/data.parquet
    .staged/episode-000007/<camera>.mp4
    .staged/episode-000007/episode.json

A folder gets its name when all of it is there, so that a killed writer leaves whole episodes only.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from openpi_flash_training.dataset.episode_table import Fact
from openpi_flash_training.dataset.feature_stats import Stats, from_lists, to_lists
from openpi_flash_training.dataset.layout import STAGED, read_json
from openpi_flash_training.episodes.error import DataError

_DATA = "data.parquet"
_EPISODE = "episode.json"
PARQUET_OPTIONS = {"compression": "snappy", "use_dictionary": False}
"""A dictionary of PNG files would only cost time."""


@dataclass(frozen=True)
class StagedEpisode:
    """A staged episode.

    Attributes:
        folder: its own.
        index: of the episode in the dataset.
        length: number of frames.
        tasks: in words.
        new_tasks: all tasks of the dataset from this episode on, by index.
        stats: by feature.
        facts: further columns of the table of episodes.
    """

    folder: Path
    index: int
    length: int
    tasks: tuple[str, ...]
    new_tasks: tuple[str, ...]
    stats: Mapping[str, Stats]
    facts: Mapping[str, Fact]

    @property
    def data(self) -> Path:
        """File of the frames."""
        return self.folder / _DATA

    def video(self, camera: str) -> Path:
        """File of a camera."""
        return self.folder / f"{camera}.mp4"

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder)


def partial_folder(dataset: Path, index: int) -> Path:
    """A new, empty folder to build a staged episode in."""
    folder = dataset / STAGED / f".episode-{index:06d}.partial"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def write_frames(folder: Path, table: pa.Table) -> None:
    """Write the frames of an episode."""
    pq.write_table(table, folder / _DATA, **PARQUET_OPTIONS)


def commit(partial: Path, episode: StagedEpisode) -> None:
    """Finish a staged episode that was built in a partial folder."""
    content = {
        "length": episode.length,
        "tasks": list(episode.tasks),
        "new_tasks": list(episode.new_tasks),
        "stats": to_lists(episode.stats),
        "facts": dict(episode.facts),
    }
    (partial / _EPISODE).write_text(json.dumps(content))
    partial.rename(episode.folder)


def staged_folder(dataset: Path, index: int) -> Path:
    """Folder of a staged episode."""
    return dataset / STAGED / f"episode-{index:06d}"


def staged_episodes(dataset: Path) -> list[StagedEpisode]:
    """All staged episodes in order.

    Raises:
        DataError: one is malformed.
    """
    return [_read(folder) for folder in sorted((dataset / STAGED).glob("episode-*"))]


def _read(folder: Path) -> StagedEpisode:
    index = int(folder.name.rpartition("-")[2])
    content = read_json(folder / _EPISODE)
    try:
        return StagedEpisode(
            folder=folder,
            index=index,
            length=int(content["length"]),
            tasks=tuple(content["tasks"]),
            new_tasks=tuple(content["new_tasks"]),
            stats=from_lists(content["stats"]),
            facts=content["facts"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(folder, f"is not a staged episode: {error!r}", index) from error
