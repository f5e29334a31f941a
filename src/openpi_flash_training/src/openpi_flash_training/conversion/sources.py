"""Finds the recordings of a source: a file, a folder of one recording, or a folder of many."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from openpi_flash_training.dataset.layout import INFO
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.recordings.messages import is_recording
from openpi_flash_training.recordings.positronic import positronic_episodes

Kind = Literal["ros", "positronic", "lerobot"]


def find_recordings(source: Path) -> tuple[Kind, list[Path]]:
    """What a source is, and its recordings in the order of their names.

    Raises:
        DataError: it is missing, or holds none.
    """
    if not source.exists():
        raise DataError(source, "is missing")
    if (source / INFO).exists():
        return "lerobot", [source]
    if is_recording(source):
        return "ros", [source]
    positronic = positronic_episodes(source) if source.is_dir() else []
    if positronic:
        return "positronic", positronic
    inside = sorted(path for path in source.rglob("*") if _is_outermost(path, source))
    if not inside:
        raise DataError(
            source,
            "holds no recording: no rosbag2, no MCAP file, no LeRobot dataset, and none of "
            "Positronic's episodes",
        )
    return "ros", inside


def _is_outermost(path: Path, source: Path) -> bool:
    """Whether a path is a recording and not a file of a rosbag2."""
    return is_recording(path) and not (path.parent != source and is_recording(path.parent))
