"""Positronic's native recordings.

    <root>/<block:012d>/<episode:012d>/<signal>.parquet       timestamp (int64, ns), value
    <root>/<block:012d>/<episode:012d>/<camera>.mp4           images
    <root>/<block:012d>/<episode:012d>/<camera>.frames.parquet    ts_ns, the time of each image
    <root>/<block:012d>/<episode:012d>/static.json            task, and what else is constant

The times of images are those of the parquet file: in the video they are frame numbers. An episode
with ``.unfinished`` is not whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import av
import numpy as np
import pyarrow as pa

from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.episodes.recorded import (
    CameraStream,
    NumberStream,
    RecordedEpisode,
)
from openpi_flash_training.episodes.stamps import choose_times
from openpi_flash_training.recordings.files import read_json_file, read_parquet_file

_FRAMES = ".frames.parquet"
_COMMANDS = ("robot_command", "target_grip")
_OUTCOME, _SUCCESS = "eval.outcome", "Success"


def positronic_episodes(root: Path) -> list[Path]:
    """Folders of the episodes below a folder, in order; empty where it has none."""
    if (root / "static.json").exists() and (root / "meta.json").exists():
        return [root]
    return sorted(meta.parent for meta in root.glob("[0-9]*/[0-9]*/meta.json"))


def read_positronic_episode(folder: Path) -> RecordedEpisode:
    """Read an episode.

    Raises:
        DataError: it is unfinished, or a file is missing or broken.
    """
    if (folder / ".unfinished").exists():
        raise DataError(folder, "is unfinished: its recorder was interrupted")
    static = read_json_file(folder / "static.json") if (folder / "static.json").exists() else {}
    if not isinstance(static, dict):
        raise DataError(folder / "static.json", "holds no names and values")
    numbers: dict[str, NumberStream] = {}
    cameras: dict[str, CameraStream] = {}
    notes: list[str] = []
    for file in sorted(folder.glob("*.parquet")):
        if file.name.endswith(_FRAMES):
            name = file.name.removesuffix(_FRAMES)
            cameras[name] = _camera(folder, name, file, notes)
            continue
        stream = _numbers(file, notes)
        if stream is not None:
            numbers[file.stem] = stream
    task = static.get("task")
    return RecordedEpisode(
        source=str(folder),
        numbers=numbers,
        cameras=cameras,
        task=task if isinstance(task, str) else None,
        facts=_facts(static),
        notes=tuple(notes),
    )


def _facts(static: Mapping[str, object]) -> dict[str, str | int | float | bool]:
    """What the evaluation's console wrote; ``success`` where it says how the episode went."""
    facts = {
        name: value
        for name, value in static.items()
        if name.startswith("eval.") and isinstance(value, str | int | float | bool)
    }
    outcome = facts.get(_OUTCOME)
    return facts if outcome is None else {**facts, "success": outcome == _SUCCESS}


def _numbers(file: Path, notes: list[str]) -> NumberStream | None:
    table = read_parquet_file(file)
    if not {"timestamp", "value"} <= set(table.column_names):
        raise DataError(file, f"has the columns {table.column_names}, not timestamp and value")
    if not len(table):
        return None
    column = table["value"].combine_chunks()
    if pa.types.is_string(column.type) or pa.types.is_struct(column.type):
        return None
    try:
        values = np.array(column.to_pylist(), np.float64).reshape(len(table), -1)
    except (TypeError, ValueError) as error:
        raise DataError(file, f"has rows that are not {len(table)} equal lists") from error
    chosen = choose_times(None, table["timestamp"].to_numpy().astype(np.int64))
    if chosen.note:
        notes.append(f"{file.name}: {chosen.note}")
    is_command = file.stem.startswith(_COMMANDS)
    return NumberStream(chosen.times, values[chosen.kept], is_command)


def _camera(folder: Path, name: str, frames: Path, notes: list[str]) -> CameraStream:
    video = folder / f"{name}.mp4"
    table = read_parquet_file(frames)
    if "ts_ns" not in table.column_names:
        raise DataError(frames, f"has the columns {table.column_names}, not ts_ns")
    if not video.exists():
        raise DataError(video, "is missing, though its times are there")
    chosen = choose_times(None, table["ts_ns"].to_numpy().astype(np.int64))
    if chosen.note:
        notes.append(f"{frames.name}: {chosen.note}")

    def read(indices: Sequence[int]) -> Iterator[np.ndarray]:
        return _decode(video, chosen.kept[np.asarray(indices, np.int64)], len(table))

    return CameraStream(chosen.times, read)


def _decode(video: Path, numbers: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Images of a video by their numbers, rising, uint8 [H, W, 3]."""
    wanted = iter(numbers.tolist())
    number = next(wanted, None)
    count = 0
    try:
        with av.open(str(video)) as container:
            for count, frame in enumerate(container.decode(video=0), 1):
                if number is None:
                    return
                if count - 1 == number:
                    yield frame.to_ndarray(format="rgb24")
                    number = next(wanted, None)
    except (av.FFmpegError, IndexError) as error:
        raise DataError(video, f"is not a video, or a truncated one: {error}") from error
    if number is not None:
        raise DataError(video, f"has {count} images, its times {length}: truncated?")
