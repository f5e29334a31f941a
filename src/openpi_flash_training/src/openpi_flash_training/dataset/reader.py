"""Reads LeRobot datasets: v3.0, v2.1 and v2.0."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from flash_transport import ImageError, decode_image
from openpi_flash_training.dataset.episode_table import EpisodeRow, Fact, read_episodes
from openpi_flash_training.dataset.feature import INDEX_FEATURES, Feature
from openpi_flash_training.dataset.frame_table import numbers_of
from openpi_flash_training.dataset.info import DatasetInfo, read_info
from openpi_flash_training.dataset.layout import STAGED
from openpi_flash_training.dataset.parquet import read_rows
from openpi_flash_training.dataset.staged import staged_episodes
from openpi_flash_training.dataset.task_table import read_tasks
from openpi_flash_training.dataset.v21_tables import read_v21_episodes, read_v21_tasks
from openpi_flash_training.dataset.video_frames import read_frames
from openpi_flash_training.episodes.error import DataError


@dataclass(frozen=True)
class Episode:
    """One episode of a dataset.

    Attributes:
        index: of the episode.
        length: number of frames.
        tasks: in words.
        facts: further columns of the table of episodes.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    facts: Mapping[str, Fact]


@dataclass(frozen=True)
class Dataset:
    """A dataset; open it with :meth:`open`.

    It is plain data and can be sent to other processes: files are opened where they are read, and
    each thread of each process keeps its own.

    Attributes:
        folder: of the dataset.
        info: what ``meta/info.json`` says.
        tasks: in words, by index.
        rows: where each episode lies.
    """

    folder: Path
    info: DatasetInfo
    tasks: tuple[str, ...]
    rows: tuple[EpisodeRow, ...]

    @classmethod
    def open(cls, folder: Path, unfinished: bool = False) -> Dataset:
        """Open a dataset.

        Args:
            folder: of the dataset.
            unfinished: also where a writer was interrupted: the episodes in the dataset's files.

        Raises:
            DataError: the folder has no dataset, a broken one, one of another version, or an
                unfinished one.
        """
        info = read_info(folder)
        if (folder / STAGED).exists() and not unfinished:
            whole = info.episodes + len(staged_episodes(folder))
            raise DataError(
                folder,
                f"is unfinished: its writer was interrupted, or still writes. {whole} episodes are "
                "whole; resume the writer, or delete the folder",
            )
        if info.is_v21:
            return cls(folder, info, read_v21_tasks(folder), read_v21_episodes(folder, info))
        tasks = read_tasks(folder) if info.tasks else ()
        return cls(folder, info, tasks, read_episodes(folder, info.video_keys, info.episodes))

    @property
    def fps(self) -> int:
        """Frames a second."""
        return self.info.fps

    @property
    def features(self) -> Mapping[str, Feature]:
        """The columns, without LeRobot's index columns."""
        return self.info.features

    @property
    def robot_type(self) -> str | None:
        """Name of the robot, where the dataset names one."""
        return self.info.robot_type

    @property
    def cameras(self) -> tuple[str, ...]:
        """Keys of the cameras."""
        return self.info.cameras

    @cached_property
    def episodes(self) -> tuple[Episode, ...]:
        """All episodes."""
        return tuple(Episode(r.index, r.length, r.tasks, r.facts) for r in self.rows)

    @property
    def frames(self) -> int:
        """Number of frames of all episodes."""
        return sum(row.length for row in self.rows)

    def numbers(self, episode: int, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """The numbers of an episode.

        Args:
            episode: index.
            keys: which features, index columns included; None for all but those.

        Returns:
            [T, *shape] by feature; a scalar is [T, 1].

        Raises:
            DataError: the file is missing or broken, or there is no such feature or episode.
        """
        if keys is None:
            keys = [key for key, feature in self.features.items() if feature.is_number]
        features = {key: self._feature(key) for key in keys}
        table = self._table(episode, list(features))
        path = self._data_path(episode)
        return {k: numbers_of(path, k, f, table[k]) for k, f in features.items()}

    def texts(self, episode: int) -> dict[str, tuple[str, ...]]:
        """The strings of an episode, T by feature of the type ``string``."""
        keys = [key for key, feature in self.features.items() if feature.is_text]
        table = self._table(episode, keys) if keys else None
        return {key: tuple(table[key].to_pylist()) for key in keys} if table else {}

    def prompts(self, episode: int) -> tuple[str, ...]:
        """The task of each frame of an episode, in words."""
        row = self._row(episode)
        if len(row.tasks) == 1:
            return row.tasks * row.length
        indices = self.numbers(episode, ["task_index"])["task_index"][:, 0]
        try:
            return tuple(self.tasks[index] for index in indices)
        except IndexError:
            raise DataError(
                self._data_path(episode),
                f"names the task {indices.max()}; there are {len(self.tasks)}",
                episode,
            ) from None

    def images(self, episode: int, camera: str, indices: Sequence[int]) -> np.ndarray:
        """Images of an episode.

        Frames that follow one another are cheapest; each jump costs a seek.

        Args:
            episode: index.
            camera: key of the feature.
            indices: of frames of the episode, in any order.

        Returns:
            uint8 [n, H, W, 3].

        Raises:
            DataError: a file is missing, truncated or broken, or there is no such camera, episode
                or frame.
        """
        row = self._row(episode)
        feature = self._feature(camera)
        if not feature.is_image:
            raise DataError(self.folder, f"{camera} is no camera, it is {feature.dtype}")
        frames = [int(index) for index in indices]
        for index in frames:
            if not 0 <= index < row.length:
                raise DataError(
                    self.folder, f"has {row.length} frames, frame {index} is asked for", episode
                )
        if not frames:
            return np.empty((0, *feature.shape), np.uint8)
        if feature.dtype == "image":
            images = self._stored_images(episode, camera, frames)
        else:
            images = self._video_frames(row, camera, frames)
        for image in images:
            if image.shape != feature.shape:
                raise DataError(
                    self.folder,
                    f"{camera} has images of {image.shape}, the dataset says {feature.shape}",
                    episode,
                )
        return np.stack(images)

    def video_place(self, episode: int, camera: str) -> tuple[Path, float]:
        """The file of a camera that is stored as video, and when the episode begins in it, s."""
        video = self._row(episode).videos[camera]
        return self.info.video_file(self.folder, video.place, episode, camera), video.start

    def _video_frames(
        self, row: EpisodeRow, camera: str, frames: Sequence[int]
    ) -> list[np.ndarray]:
        path, begin = self.video_place(row.index, camera)
        try:
            return read_frames(path, [begin + i / self.fps for i in frames], self.fps)
        except DataError as error:
            raise DataError(error.path, error.problem, row.index) from error

    def image_files(self, episode: int, camera: str) -> list[bytes]:
        """The files of a camera that is not stored as video, one of each frame.

        Raises:
            DataError: the data file is missing or broken, or a frame has no image.
        """
        length = self._row(episode).length
        return [content.to_pybytes() for content in self._contents(episode, camera, range(length))]

    def _stored_images(self, episode: int, camera: str, frames: Sequence[int]) -> list[np.ndarray]:
        images = []
        for index, content in zip(frames, self._contents(episode, camera, frames), strict=True):
            try:
                images.append(decode_image(memoryview(content)))
            except ImageError as error:
                raise DataError(
                    self._data_path(episode),
                    f"{camera} at frame {index} is not an image: {error}",
                    episode,
                ) from error
        return images

    def _contents(self, episode: int, camera: str, frames: Sequence[int]) -> Iterator[pa.Buffer]:
        """The file of each image."""
        column = self._table(episode, [camera])[camera].combine_chunks()
        contents = column.field("bytes") if pa.types.is_struct(column.type) else column
        for index in frames:
            content = contents[index].as_buffer()
            if content is None:
                raise DataError(
                    self._data_path(episode), f"{camera} has no image at frame {index}", episode
                )
            yield content

    def _row(self, episode: int) -> EpisodeRow:
        if not 0 <= episode < len(self.rows):
            raise DataError(self.folder, f"does not exist; there are {len(self.rows)}", episode)
        return self.rows[episode]

    def _feature(self, key: str) -> Feature:
        feature = self.features.get(key) or INDEX_FEATURES.get(key)
        if feature is None:
            known = ", ".join(self.features)
            raise DataError(self.folder, f"has no feature {key}; it has {known}")
        return feature

    def _data_path(self, episode: int) -> Path:
        return self.info.data_file(self.folder, self._row(episode).data, episode)

    def _table(self, episode: int, columns: list[str]) -> pa.Table:
        row = self._row(episode)
        first = self._first_frames[row.data]
        try:
            return read_rows(self._data_path(episode), row.start - first, row.length, columns)
        except DataError as error:
            raise DataError(error.path, error.problem, episode) from error

    @cached_property
    def _first_frames(self) -> dict[tuple[int, int], int]:
        """Index in the dataset of the first frame of each data file."""
        first: dict[tuple[int, int], int] = {}
        for row in self.rows:
            first[row.data] = min(row.start, first.get(row.data, row.start))
        return first
