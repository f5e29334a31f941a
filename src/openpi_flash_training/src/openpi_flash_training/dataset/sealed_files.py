"""Moves staged episodes into the files of a dataset.

The order makes an interruption harmless: frames and videos first, then the tables, and
``meta/info.json``, whose totals say what counts, last. Sealing again overwrites what was left.
Statistics cannot be taken apart again, so the new ones wait beside the staged episodes, with the
number of episodes that they are of, until ``meta/info.json`` counts as many.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from openpi_flash_training.dataset.episode_table import (
    EpisodeRow,
    VideoPlace,
    read_episodes,
    write_episodes,
)
from openpi_flash_training.dataset.feature_stats import Stats, combine, from_lists, to_lists
from openpi_flash_training.dataset.frame_table import frame_schema
from openpi_flash_training.dataset.info import DatasetInfo
from openpi_flash_training.dataset.layout import (
    STAGED,
    STATS,
    FilePlace,
    read_json,
    whole_file,
    write_json,
)
from openpi_flash_training.dataset.staged import PARQUET_OPTIONS, StagedEpisode
from openpi_flash_training.dataset.task_table import write_tasks
from openpi_flash_training.dataset.v21_tables import write_v21_episodes, write_v21_tasks
from openpi_flash_training.dataset.video_file import join_videos

_ROW_GROUP_BYTES = 256 * 1024
_NEXT_STATS = f"{STAGED}/stats.json"


class SealedFiles(Protocol):
    """The files of one version of the format."""

    def seal(
        self, info: DatasetInfo, staged: Sequence[StagedEpisode], tasks: Sequence[str]
    ) -> DatasetInfo:
        """Write staged episodes into the dataset's files.

        Args:
            info: of the dataset so far.
            staged: the episodes; their folders are left as they are.
            tasks: all tasks by index.

        Returns:
            The new ``meta/info.json``, written.

        Raises:
            DataError: a file cannot be written, or a staged one is broken.
        """
        ...


def sealed_files(folder: Path, info: DatasetInfo) -> SealedFiles:
    """The files of a dataset, by its version."""
    return _EpisodeFiles(folder) if info.is_v21 else _SharedFiles(folder, info)


class _SharedFiles:
    """v3.0: many episodes in a file."""

    def __init__(self, folder: Path, info: DatasetInfo) -> None:
        self._folder = folder
        self._schema = frame_schema(info.features)
        self._rows: list[EpisodeRow] = []
        """Rows of this writer's own file of the table of episodes."""
        self._place = self._meta_place = FilePlace(0, 0)
        self._stats: list[Mapping[str, Stats]] = []
        if not info.episodes:
            return
        self._publish_stats(info)
        if (folder / STATS).exists():
            self._stats = [from_lists(read_json(folder / STATS))]
        rows = read_episodes(folder, info.video_keys, info.episodes)
        places = [row.data for row in rows]
        places += [video.place for row in rows for video in row.videos.values()]
        # files that are there stay as they are
        self._place = max(places).next(info.files_in_chunk)
        metas = [row.meta or FilePlace(0, 0) for row in rows]
        self._meta_place = max(metas).next(info.files_in_chunk)

    def seal(
        self, info: DatasetInfo, staged: Sequence[StagedEpisode], tasks: Sequence[str]
    ) -> DatasetInfo:
        """See the protocol."""
        self._write_frames(info, staged)
        for camera in info.video_keys:
            with whole_file(info.video_file(self._folder, self._place, 0, camera)) as partial:
                videos = [episode.video(camera) for episode in staged]
                join_videos(videos, [episode.length for episode in staged], partial, info.fps)
        write_tasks(self._folder, tasks)
        rows = self._rows + self._new_rows(info, staged)
        write_episodes(self._folder, self._meta_place, rows)
        stats = combine([*self._stats, *(episode.stats for episode in staged)])
        info = _grown(info, staged, tasks)
        waiting = {"episodes": info.episodes, "stats": to_lists(stats)}
        write_json(self._folder / _NEXT_STATS, waiting)
        info.write(self._folder)
        self._publish_stats(info)
        self._rows, self._stats = rows, [stats]
        self._place = self._place.next(info.files_in_chunk)
        return info

    def _publish_stats(self, info: DatasetInfo) -> None:
        """Make the statistics that wait the dataset's, if they are of all of its episodes."""
        waiting = self._folder / _NEXT_STATS
        if waiting.exists() and (content := read_json(waiting))["episodes"] == info.episodes:
            write_json(self._folder / STATS, content["stats"])

    def _new_rows(self, info: DatasetInfo, staged: Sequence[StagedEpisode]) -> list[EpisodeRow]:
        rows = []
        in_file, in_dataset = 0, info.frames
        for episode in staged:
            start, end = in_file / info.fps, (in_file + episode.length) / info.fps
            video = VideoPlace(self._place, start, end)
            rows.append(
                EpisodeRow(
                    index=episode.index,
                    length=episode.length,
                    tasks=episode.tasks,
                    data=self._place,
                    start=in_dataset,
                    videos=dict.fromkeys(info.video_keys, video),
                    facts=episode.facts,
                    stats=episode.stats,
                )
            )
            in_file += episode.length
            in_dataset += episode.length
        return rows

    def _write_frames(self, info: DatasetInfo, staged: Sequence[StagedEpisode]) -> None:
        with (
            whole_file(info.data_file(self._folder, self._place, 0)) as partial,
            pq.ParquetWriter(partial, self._schema, **PARQUET_OPTIONS) as writer,
        ):
            for episode in staged:
                table = pq.read_table(episode.data, partitioning=None)
                table = table.select(self._schema.names).cast(self._schema)
                writer.write_table(table, _row_group_size(table))


class _EpisodeFiles:
    """v2.1: files of its own for each episode."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def seal(
        self, info: DatasetInfo, staged: Sequence[StagedEpisode], tasks: Sequence[str]
    ) -> DatasetInfo:
        """See the protocol."""
        place = FilePlace(0, 0)
        start, rows = info.frames, []
        for episode in staged:
            files = {episode.data: info.data_file(self._folder, place, episode.index)}
            for key in info.video_keys:
                video = info.video_file(self._folder, place, episode.index, key)
                files[episode.video(key)] = video
            for source, target in files.items():
                with whole_file(target) as partial:
                    shutil.copyfile(source, partial)
            rows.append(
                EpisodeRow(
                    episode.index,
                    episode.length,
                    episode.tasks,
                    place,
                    start,
                    facts=episode.facts,
                    stats=episode.stats,
                )
            )
            start += episode.length
        write_v21_tasks(self._folder, tasks)
        write_v21_episodes(self._folder, rows, info.episodes)
        info = _grown(info, staged, tasks)
        info.write(self._folder)
        return info


def _grown(info: DatasetInfo, staged: Sequence[StagedEpisode], tasks: Sequence[str]) -> DatasetInfo:
    return replace(
        info,
        episodes=info.episodes + len(staged),
        frames=info.frames + sum(episode.length for episode in staged),
        tasks=len(tasks),
    )


def _row_group_size(table: pa.Table) -> int:
    """Rows of a group: an episode's, or fewer where PNG images are among them.

    Whoever reads a frame reads its whole group.
    """
    return max(1, min(len(table), _ROW_GROUP_BYTES * len(table) // max(1, table.nbytes)))
