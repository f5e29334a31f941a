"""Writes LeRobot datasets: v3.0, or v2.1."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from openpi_flash_training.dataset.episode_table import EpisodeRow, Fact, read_episodes
from openpi_flash_training.dataset.feature import Feature, check_features, fit_numbers
from openpi_flash_training.dataset.feature_stats import (
    image_stats,
    number_stats,
)
from openpi_flash_training.dataset.frame_table import frame_schema, frame_table
from openpi_flash_training.dataset.image_sequence import ImageSequence
from openpi_flash_training.dataset.info import DatasetInfo, read_info
from openpi_flash_training.dataset.layout import (
    INFO,
    STAGED,
    V21,
    V21_DATA_PATH,
    V21_VIDEO_PATH,
    V30,
)
from openpi_flash_training.dataset.sealed_files import sealed_files
from openpi_flash_training.dataset.staged import (
    StagedEpisode,
    commit,
    partial_folder,
    staged_episodes,
    staged_folder,
    write_frames,
)
from openpi_flash_training.dataset.staged_images import (
    ImagesDifferError,
    store_pngs,
    store_video,
)
from openpi_flash_training.dataset.task_table import read_tasks
from openpi_flash_training.dataset.v21_tables import read_v21_episodes, read_v21_tasks
from openpi_flash_training.dataset.video_file import (
    Encoding,
    VideoSettings,
    encoding_of,
    settings_of,
    video_facts,
)
from openpi_flash_training.episodes.error import DataError

_MB = 1024 * 1024


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
        *,
        video: VideoSettings | None = None,
        version: str = V30,
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
            version: of the format: v3.0, or v2.1 for tools that read nothing newer (openpi's
                lerobot).

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
        info = DatasetInfo(fps, dict(features), robot_type, video=facts)
        if version == V21:
            info = replace(
                info, version=version, data_path=V21_DATA_PATH, video_path=V21_VIDEO_PATH
            )
        elif version != V30:
            raise DataError(folder, f"cannot be written as {version!r}; {V30} and {V21} can")
        self._start(folder, info, settings)
        self._info.write(folder)

    @classmethod
    def resume(cls, folder: Path, video: VideoSettings | None = None) -> DatasetWriter:
        """Go on with a dataset, finished or not.

        Args:
            folder: of the dataset.
            video: how cameras are encoded from now on; None for what the dataset says.

        Raises:
            DataError: there is no dataset, or it is broken.
        """
        writer = cls.__new__(cls)
        info = read_info(folder)
        if info.version not in (V30, V21):
            raise DataError(
                folder, f"is of the version {info.version}; convert it to {V30} to go on with it"
            )
        writer._start(folder, info, video or settings_of(next(iter(info.video.values()), {})))
        return writer

    def _start(self, folder: Path, info: DatasetInfo, settings: VideoSettings) -> None:
        self.folder = folder
        self._info = info
        self._settings = settings
        self._schema = frame_schema(info.features)
        self._pngs = [k for k, f in info.features.items() if f.dtype == "image"]
        read = read_v21_tasks if info.is_v21 else read_tasks
        self._tasks = list(read(folder)) if info.tasks else []
        self._files = sealed_files(folder, info)
        is_finished = (folder / INFO).exists() and not (folder / STAGED).exists()
        self._finished_with = info.episodes if is_finished else None
        """Episodes of a dataset that was finished before; None: it was not."""
        (folder / STAGED).mkdir(parents=True, exist_ok=True)
        self._staged: list[StagedEpisode] = []
        self._encodings: dict[str, Encoding] = {}
        """Of the staged videos, by camera."""
        for episode in staged_episodes(folder):
            if episode.index < info.episodes:
                episode.remove()  # killed between writing it and removing it
            elif episode.index == info.episodes + len(self._staged):
                self._tasks = list(episode.new_tasks)
                self._staged.append(episode)
        for key in info.video_keys if self._staged else ():
            self._encodings[key] = encoding_of(self._staged[-1].video(key))

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

    def episode_facts(self) -> list[Mapping[str, Fact]]:
        """The facts of the episodes so far, those that are staged included."""
        info = self._info
        rows: tuple[EpisodeRow, ...] = ()
        if info.episodes and info.is_v21:
            rows = read_v21_episodes(self.folder, info)
        elif info.episodes:
            rows = read_episodes(self.folder, info.video_keys, info.episodes)
        return [*(row.facts for row in rows), *(episode.facts for episode in self._staged)]

    def add_episode(
        self,
        task: str | Sequence[str],
        numbers: Mapping[str, Any],
        images: Mapping[str, ImageSequence] | None = None,
        texts: Mapping[str, Sequence[str]] | None = None,
        facts: Mapping[str, Fact] | None = None,
    ) -> int:
        """Add an episode; on return it is whole on disk.

        Args:
            task: what the robot does, in words; or one task for each frame.
            numbers: [T, *shape] by feature; [T] is enough for a scalar.
            images: uint8 [T, H, W, 3] by camera; or what hands them out one by one.
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
        length = _length({**numbers, **images, **texts})
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

    def abandon(self) -> None:
        """Stop without closing: whole episodes stay, for :meth:`resume`.

        A dataset that has no episode yet is deleted; a finished one, of a resumed writer that has
        added nothing, is finished again.
        """
        if self._finished_with is None:
            if not self.episodes:
                shutil.rmtree(self.folder)
        elif self.episodes == self._finished_with:
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
        self, index: int, key: str, feature: Feature, images: ImageSequence, length: int
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
        images: Mapping[str, ImageSequence],
        *,
        tasks: tuple[str, ...],
        known_tasks: tuple[str, ...],
        facts: Mapping[str, Fact],
    ) -> None:
        stats = {k: number_stats(v) for k, v in columns.items() if isinstance(v, np.ndarray)}
        folder = staged_folder(self.folder, index)
        length = len(columns["index"])
        try:
            partial = partial_folder(self.folder, index)
            for key, frames in images.items():
                stats[key] = image_stats(self._store_images(index, key, frames, partial, columns))
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

    def _store_images(
        self, index: int, key: str, frames: ImageSequence, partial: Path, columns: dict[str, Any]
    ) -> list[np.ndarray]:
        """Store a camera's images; returns those that count for its statistics."""
        try:
            if key in self._pngs:
                columns[key], seen = store_pngs(frames)
                return seen
            path = partial / f"{key}.mp4"
            seen = store_video(frames, path, self._info.fps, self._settings)
        except ImagesDifferError as error:
            raise DataError(self.folder, f"{key}: {error}", index) from None
        self._begin_file_for(key, path)
        return seen

    def _begin_file_for(self, key: str, path: Path) -> None:
        """A file has videos of one encoding only: write what is staged with another one."""
        encoding = encoding_of(path)
        if self._encodings.get(key, encoding) != encoding:
            self._seal()
            self._encodings.clear()
        self._encodings[key] = encoding

    def _seal(self) -> None:
        staged = self._staged
        if not staged:
            return
        self._info = self._files.seal(self._info, staged, self._tasks)
        self._staged = []
        for episode in staged:
            episode.remove()


def _length(content: Mapping[str, Any]) -> int:
    """Number of frames of the first column."""
    for values in content.values():
        return int(values.shape[0]) if hasattr(values, "shape") else len(values)
    return 0
