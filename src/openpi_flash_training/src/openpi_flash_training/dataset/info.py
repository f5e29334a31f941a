"""``meta/info.json``: the rate, the features and the totals of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openpi_flash_training.dataset.feature import (
    INDEX_FEATURES,
    Feature,
    describe,
    parse_feature,
)
from openpi_flash_training.dataset.layout import (
    DATA_FILE_MB,
    DATA_PATH,
    FILES_IN_CHUNK,
    INFO,
    V21,
    V21_DATA_PATH,
    V21_VIDEO_PATH,
    V30,
    VIDEO_FILE_MB,
    VIDEO_PATH,
    FilePlace,
    read_json,
    write_json,
)
from openpi_flash_training.episodes.error import DataError


@dataclass(frozen=True)
class DatasetInfo:
    """What ``meta/info.json`` says.

    Attributes:
        fps: frames a second.
        features: by key, without the index columns.
        robot_type: name of the robot; None where the dataset names none.
        episodes: number of episodes.
        frames: number of frames of all episodes.
        tasks: number of tasks.
        files_in_chunk: number of files in a folder ``chunk-<n>``.
        data_file_mb: size at which a new data file begins, MB.
        video_file_mb: size at which a new video file begins, MB.
        data_path: pattern of the data files' paths.
        video_path: pattern of the video files' paths.
        video: ``video.*`` facts of each camera that is stored as video.
        version: of the format.
        raw: the whole file, for keys that are kept as they are.
    """

    fps: int
    features: Mapping[str, Feature]
    robot_type: str | None = None
    episodes: int = 0
    frames: int = 0
    tasks: int = 0
    files_in_chunk: int = FILES_IN_CHUNK
    data_file_mb: float = DATA_FILE_MB
    video_file_mb: float = VIDEO_FILE_MB
    data_path: str = DATA_PATH
    video_path: str = VIDEO_PATH
    video: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    version: str = V30
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Keys of the cameras."""
        return tuple(key for key, feature in self.features.items() if feature.is_image)

    @property
    def video_keys(self) -> tuple[str, ...]:
        """Keys of the cameras that are stored as video."""
        return tuple(key for key, feature in self.features.items() if feature.dtype == "video")

    @property
    def is_v21(self) -> bool:
        """Whether each episode has files of its own, and tables are JSON."""
        return self.version.startswith("v2.")

    def data_file(self, folder: Path, place: FilePlace, episode: int) -> Path:
        """The parquet file of an episode."""
        return folder / self._filled(self.data_path, place, episode)

    def video_file(self, folder: Path, place: FilePlace, episode: int, camera: str) -> Path:
        """The video of an episode's camera."""
        return folder / self._filled(self.video_path, place, episode, camera)

    def _filled(self, pattern: str, place: FilePlace, episode: int, camera: str = "") -> str:
        return pattern.format(
            chunk_index=place.chunk,
            file_index=place.file,
            episode_chunk=episode // self.files_in_chunk,
            episode_index=episode,
            video_key=camera,
        )

    def write(self, folder: Path) -> None:
        """Write the file; a feature keeps the words that another writer gave it."""
        old = self.raw.get("features", {})
        features = {
            key: {**describe(feature, self.video.get(key)), **old.get(key, {})}
            for key, feature in {**self.features, **INDEX_FEATURES}.items()
        }
        described = {
            **self.raw,
            "codebase_version": self.version,
            "fps": self.fps,
            "features": features,
            "total_episodes": self.episodes,
            "total_frames": self.frames,
            "total_tasks": self.tasks,
            "chunks_size": self.files_in_chunk,
            "data_path": self.data_path,
            "video_path": self.video_path if self.video_keys else None,
            "robot_type": self.robot_type,
            "splits": {"train": f"0:{self.episodes}"} if self.episodes else {},
        }
        if self.is_v21:
            described["total_videos"] = self.episodes * len(self.video_keys)
            described["total_chunks"] = -(-self.episodes // self.files_in_chunk)
        else:
            described["data_files_size_in_mb"] = self.data_file_mb
            described["video_files_size_in_mb"] = self.video_file_mb
        write_json(folder / INFO, described)


def read_info(folder: Path) -> DatasetInfo:
    """Read ``meta/info.json``.

    Raises:
        DataError: it is missing, malformed, or of a version other than v2.0, v2.1 and v3.0.
    """
    path = folder / INFO
    raw = read_json(path)
    try:
        version = str(raw["codebase_version"])
        fps = raw["fps"]
        described = dict(raw["features"])
        totals = [int(raw[f"total_{name}"]) for name in ("episodes", "frames", "tasks")]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(path, f"is not a LeRobot dataset's: {error!r}") from error
    if version not in ("v2.0", V21, V30):
        raise DataError(path, f"is of the version {version}; v2.0, v2.1 and v3.0 are read")
    is_v30 = version == V30
    if not isinstance(fps, int | float) or fps <= 0 or int(fps) != fps:
        raise DataError(path, f"fps is {fps!r}, not a whole number of frames a second")
    return DatasetInfo(
        fps=int(fps),
        features={
            key: parse_feature(path, key, feature)
            for key, feature in described.items()
            if key not in INDEX_FEATURES
        },
        robot_type=raw.get("robot_type"),
        episodes=totals[0],
        frames=totals[1],
        tasks=totals[2],
        files_in_chunk=int(raw.get("chunks_size") or FILES_IN_CHUNK),
        data_file_mb=raw.get("data_files_size_in_mb") or DATA_FILE_MB,
        video_file_mb=raw.get("video_files_size_in_mb") or VIDEO_FILE_MB,
        data_path=raw.get("data_path") or (DATA_PATH if is_v30 else V21_DATA_PATH),
        video_path=raw.get("video_path") or (VIDEO_PATH if is_v30 else V21_VIDEO_PATH),
        video={
            key: feature.get("info") or {}
            for key, feature in described.items()
            if feature.get("dtype") == "video"
        },
        version=version,
        raw=raw,
    )
