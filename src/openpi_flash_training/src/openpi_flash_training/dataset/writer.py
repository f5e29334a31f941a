"""Writes LeRobot datasets, v3.0."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openpi_flash_training.dataset.episode_table import (
    EpisodeRow,
    Fact,
    VideoPlace,
    read_episodes,
    write_episodes,
)
from openpi_flash_training.dataset.feature import Feature, check_features, fit_numbers
from openpi_flash_training.dataset.feature_stats import (
    Stats,
    combine,
    from_lists,
    image_stats,
    number_stats,
    to_lists,
)
from openpi_flash_training.dataset.frame_table import frame_schema, frame_table
from openpi_flash_training.dataset.info import DatasetInfo, read_info
from openpi_flash_training.dataset.layout import (
    INFO,
    STAGED,
    STATS,
    FilePlace,
    read_json,
    whole_file,
    write_json,
)
from openpi_flash_training.dataset.png import encode_png
from openpi_flash_training.dataset.staged import (
    PARQUET_OPTIONS,
    StagedEpisode,
    commit,
    partial_folder,
    staged_episodes,
    staged_folder,
    write_frames,
)
from openpi_flash_training.dataset.task_table import read_tasks, write_tasks
from openpi_flash_training.dataset.video_file import (
    VideoSettings,
    encode_video,
    join_videos,
    video_facts,
)
from openpi_flash_training.episodes.error import DataError

_MB = 1024 * 1024
_ROW_GROUP_BYTES = _MB


class DatasetWriter:
    """Writes a dataset, episode by episode.

    An episode that :meth:`add_episode` has taken is whole on disk; :meth:`close` makes the dataset
    readable. A writer that is killed leaves whole episodes and the mark of an unfinished dataset;
    :meth:`resume` goes on after them. As a context manager it closes unless an error leaves it.
    """

    def __init__(
        self,
        folder: Path,
        fps: int,
        features: Mapping[str, Feature],
        robot_type: str | None = None,
        video: VideoSettings | None = None,
    ) -> None:
        """Begin a new dataset.

        Args:
            folder: does not exist yet, or is empty.
            fps: frames a second.
            features: columns, without LeRobot's index columns. Common keys are
                ``observation.state``, ``action`` and ``observation.images.<camera>``; further
                ones hold labels.
            robot_type: name of the robot.
            video: how cameras of the type ``video`` are encoded.

        Raises:
            DataError: the folder is in use, or a feature is none of LeRobot's.
        """
        check_features(folder, features)
        if folder.exists() and any(folder.iterdir()):
            hint = "is not empty"
            if (folder / STAGED).exists():
                hint = "has an unfinished dataset; resume it, or delete it"
            elif (folder / INFO).exists():
                hint = "has a dataset; append to it, or choose another folder"
            raise DataError(folder, hint)
        settings = video or VideoSettings()
        facts = {
            key: video_facts(feature.shape, fps, settings)
            for key, feature in features.items()
            if feature.dtype == "video"
        }
        self._start(folder, DatasetInfo(fps, dict(features), robot_type, video=facts), settings)
        self._info.write(folder)

    @classmethod
    def resume(cls, folder: Path, video: VideoSettings | None = None) -> DatasetWriter:
        """Go on with a dataset, finished or not.

        Args:
            folder: of the dataset.
            video: how cameras are encoded from now on; None for what the dataset says. Ignored
                where episodes are staged.

        Raises:
            DataError: there is no dataset, or it is broken.
        """
        writer = cls.__new__(cls)
        info = read_info(folder)
        writer._start(folder, info, video or _settings_of(info))
        return writer

    def _start(self, folder: Path, info: DatasetInfo, settings: VideoSettings) -> None:
        self.folder = folder
        self._info = info
        self._settings = settings
        self._schema = frame_schema(info.features)
        self._pngs = [k for k, f in info.features.items() if f.dtype == "image"]
        self._tasks = list(read_tasks(folder)) if info.tasks else []
        self._stats: dict[str, Stats] | None = None
        self._rows: list[EpisodeRow] = []
        """Rows of this writer's own file of the table of episodes."""
        self._place = self._meta_place = FilePlace(0, 0)
        if info.episodes:
            stats = read_json(folder / STATS) if (folder / STATS).exists() else {}
            self._stats = from_lists(stats)
            self._continue_after(read_episodes(folder, info.video_keys, info.episodes))
        (folder / STAGED).mkdir(parents=True, exist_ok=True)
        self._staged: list[StagedEpisode] = []
        for episode in staged_episodes(folder):
            if episode.index < info.episodes:
                episode.remove()  # killed between writing it and removing it
            elif episode.index == info.episodes + len(self._staged):
                self._tasks = list(episode.new_tasks)
                self._staged.append(episode)

    def _continue_after(self, rows: Sequence[EpisodeRow]) -> None:
        places = [row.data for row in rows]
        places += [video.place for row in rows for video in row.videos.values()]
        files_in_chunk = self._info.files_in_chunk
        self._place = max(places).next(files_in_chunk)
        self._meta_place = max(row.meta or FilePlace(0, 0) for row in rows).next(files_in_chunk)

    @property
    def info(self) -> DatasetInfo:
        """Rate and features of the dataset; the totals count what is in its files."""
        return self._info

    @property
    def episodes(self) -> int:
        """Number of whole episodes, those that are staged included."""
        return self._info.episodes + len(self._staged)

    @property
    def frames(self) -> int:
        """Number of frames of all whole episodes."""
        return self._info.frames + sum(episode.length for episode in self._staged)

    def add_episode(
        self,
        task: str | Sequence[str],
        numbers: Mapping[str, Any],
        images: Mapping[str, np.ndarray] | None = None,
        texts: Mapping[str, Sequence[str]] | None = None,
        facts: Mapping[str, Fact] | None = None,
    ) -> int:
        """Add an episode; on return it is whole on disk.

        Args:
            task: what the robot does, in words; or one task for each frame.
            numbers: [T, *shape] by feature; [T] is enough for a scalar.
            images: uint8 [T, H, W, 3] by camera.
            texts: T strings by feature of the type ``string``.
            facts: columns of the table of episodes: ``{"success": True, "source": "run-7.mcap"}``.
                The first episode says which there are.

        Returns:
            The index of the episode.

        Raises:
            DataError: a feature is missing, unknown, of another shape or type or not finite; the
                episode is empty; the disk is full.
        """
        index = self.episodes
        images, texts = images or {}, texts or {}
        self._check_keys(index, {**numbers, **images, **texts})
        length = len(next(iter({**numbers, **images, **texts}.values()), ()))
        if length < 1:
            raise DataError(self.folder, "has no frame", index)
        tasks = [task] * length if isinstance(task, str) else [str(word) for word in task]
        if len(tasks) != length:
            raise DataError(self.folder, f"has {len(tasks)} tasks, {length} frames", index)
        columns: dict[str, Any] = {}
        for key, feature in self._info.features.items():
            if feature.is_image:
                self._check_images(index, key, feature, images[key], length)
            elif feature.is_text:
                columns[key] = self._text_column(index, key, texts[key], length)
            else:
                columns[key] = self._number_column(index, key, feature, numbers[key], length)
        known = list(dict.fromkeys([*self._tasks, *tasks]))
        columns |= self._index_columns(index, length, [known.index(word) for word in tasks])
        self._stage(
            index,
            columns,
            images,
            tasks=tuple(dict.fromkeys(tasks)),
            known_tasks=tuple(known),
            facts=facts or {},
        )
        if self._staged_is_full():
            self._seal()
        return index

    def close(self) -> None:
        """Write what is staged into the dataset's files and mark it as finished."""
        self._seal()
        shutil.rmtree(self.folder / STAGED)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()

    def _check_keys(self, index: int, given: Mapping[str, Any]) -> None:
        features = self._info.features
        for key in features:
            if key not in given:
                what = "camera" if features[key].is_image else "feature"
                raise DataError(self.folder, f"lacks the {what} {key}", index)
        for key in given:
            if key not in features:
                known = ", ".join(features)
                raise DataError(self.folder, f"has {key}, the dataset has {known}", index)

    def _check_images(
        self, index: int, key: str, feature: Feature, images: np.ndarray, length: int
    ) -> None:
        expected = (length, *feature.shape)
        if images.shape != expected or images.dtype != np.uint8:
            raise DataError(
                self.folder,
                f"{key} is {images.dtype} {images.shape}, not uint8 {expected}",
                index,
            )

    def _number_column(
        self, index: int, key: str, feature: Feature, values: Any, length: int
    ) -> np.ndarray:
        try:
            return fit_numbers(feature, values, length)
        except ValueError as error:
            raise DataError(self.folder, f"{key} {error}", index) from None

    def _text_column(self, index: int, key: str, texts: Sequence[str], length: int) -> list[str]:
        if len(texts) != length:
            raise DataError(self.folder, f"{key} has {len(texts)} texts, not {length}", index)
        return [str(text) for text in texts]

    def _index_columns(
        self, index: int, length: int, task_index: Sequence[int]
    ) -> dict[str, np.ndarray]:
        frame = np.arange(length, dtype=np.int64)
        return {
            "timestamp": (frame / self._info.fps).astype(np.float32)[:, None],
            "frame_index": frame[:, None],
            "episode_index": np.full((length, 1), index, np.int64),
            "index": (self.frames + frame)[:, None],
            "task_index": np.asarray(task_index, np.int64)[:, None],
        }

    def _stage(
        self,
        index: int,
        columns: dict[str, Any],
        images: Mapping[str, np.ndarray],
        *,
        tasks: tuple[str, ...],
        known_tasks: tuple[str, ...],
        facts: Mapping[str, Fact],
    ) -> None:
        stats = {k: number_stats(v) for k, v in columns.items() if isinstance(v, np.ndarray)}
        stats |= {key: image_stats(frames) for key, frames in images.items()}
        folder = staged_folder(self.folder, index)
        length = len(columns["index"])
        try:
            partial = partial_folder(self.folder, index)
            for key, frames in images.items():
                if key in self._pngs:
                    columns[key] = [encode_png(frame) for frame in frames]
                else:
                    path = partial / f"{key}.mp4"
                    encode_video(path, frames, self._info.fps, self._settings)
            write_frames(partial, frame_table(self._schema, columns))
            staged = StagedEpisode(folder, index, length, tasks, known_tasks, stats, dict(facts))
            commit(partial, staged)
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(self.folder, f"cannot write: {reason}", index) from error
        self._staged.append(staged)
        self._tasks = list(known_tasks)

    def _staged_is_full(self) -> bool:
        data = sum(episode.data.stat().st_size for episode in self._staged)
        if data >= self._info.data_file_mb * _MB:
            return True
        return any(
            sum(episode.video(key).stat().st_size for episode in self._staged)
            >= self._info.video_file_mb * _MB
            for key in self._info.video_keys
        )

    def _seal(self) -> None:
        """Move the staged episodes into files of the dataset; ``meta/info.json`` comes last."""
        staged = self._staged
        if not staged:
            return
        rows = self._new_rows(staged)
        self._write_data(staged)
        for camera in self._info.video_keys:
            path = self._path(self._info.video_path, camera)
            with whole_file(path) as partial:
                videos = [episode.video(camera) for episode in staged]
                lengths = [episode.length for episode in staged]
                join_videos(videos, lengths, partial, self._info.fps)
        write_tasks(self.folder, self._tasks)
        self._rows += rows
        write_episodes(self.folder, self._meta_place, self._rows)
        old = [] if self._stats is None else [self._stats]
        self._stats = combine([*old, *(episode.stats for episode in staged)])
        write_json(self.folder / STATS, to_lists(self._stats))
        self._info = replace(
            self._info,
            episodes=self._info.episodes + len(staged),
            frames=self.frames,
            tasks=len(self._tasks),
        )
        self._staged = []
        self._info.write(self.folder)
        for episode in staged:
            episode.remove()
        self._place = self._place.next(self._info.files_in_chunk)

    def _new_rows(self, staged: Sequence[StagedEpisode]) -> list[EpisodeRow]:
        rows = []
        in_file, in_dataset = 0, self._info.frames
        for episode in staged:
            start, end = in_file / self._info.fps, (in_file + episode.length) / self._info.fps
            video = VideoPlace(self._place, start, end)
            rows.append(
                EpisodeRow(
                    index=episode.index,
                    length=episode.length,
                    tasks=episode.tasks,
                    data=self._place,
                    start=in_dataset,
                    videos=dict.fromkeys(self._info.video_keys, video),
                    facts=episode.facts,
                    stats=episode.stats,
                )
            )
            in_file += episode.length
            in_dataset += episode.length
        return rows

    def _write_data(self, staged: Sequence[StagedEpisode]) -> None:
        with (
            whole_file(self._path(self._info.data_path)) as partial,
            pq.ParquetWriter(partial, self._schema, **PARQUET_OPTIONS) as writer,
        ):
            for episode in staged:
                table = pq.read_table(episode.data, partitioning=None)
                writer.write_table(_cast(table, self._schema), _row_group_size(table))

    def _path(self, pattern: str, camera: str = "") -> Path:
        chunk, file = self._place
        return self.folder / pattern.format(video_key=camera, chunk_index=chunk, file_index=file)


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    return table.select(schema.names).cast(schema)


def _row_group_size(table: pa.Table) -> int:
    """Rows of a group: an episode's, or fewer where PNG images are among them.

    Whoever reads a frame reads its whole group.
    """
    return max(1, min(len(table), _ROW_GROUP_BYTES * len(table) // max(1, table.nbytes)))


def _settings_of(info: DatasetInfo) -> VideoSettings:
    """How a dataset's videos were encoded, as far as it says."""
    default = VideoSettings()
    facts = next(iter(info.video.values()), {})
    codec = {"av1": "libsvtav1"}.get(facts.get("video.codec", ""), facts.get("video.codec"))
    return VideoSettings(
        codec or default.codec,
        int(facts.get("video.crf") or default.crf),
        int(facts.get("video.g") or default.keyframe_interval),
        # presets are words of a codec
        facts.get("video.preset", default.preset if codec in (None, "h264") else None),
    )
