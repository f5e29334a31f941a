"""``meta/episodes``: where each episode lies, its tasks and its statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openpi_flash_training.dataset.feature_stats import Stats, to_lists
from openpi_flash_training.dataset.layout import EPISODES_PATH, FilePlace, whole_file
from openpi_flash_training.dataset.parquet import read_table
from openpi_flash_training.episodes.error import DataError

Fact = str | int | float | bool
_COLUMNS = (
    "episode_index",
    "tasks",
    "length",
    "data/chunk_index",
    "data/file_index",
    "dataset_from_index",
    "dataset_to_index",
    "meta/episodes/chunk_index",
    "meta/episodes/file_index",
)


@dataclass(frozen=True)
class VideoPlace:
    """Where an episode's video lies.

    Attributes:
        place: number of the file.
        start: time of the first frame in the file, s.
        end: end of the last frame, s.
    """

    place: FilePlace
    start: float
    end: float


@dataclass(frozen=True)
class EpisodeRow:
    """One row of the table.

    Attributes:
        index: of the episode.
        length: number of frames.
        tasks: in words.
        data: number of the data file.
        start: index of the first frame in the whole dataset.
        videos: by camera.
        meta: number of the file of this table; None before it is written.
        facts: further columns: where the episode comes from, whether it succeeded.
        stats: by feature; empty when read, as the whole dataset's are in ``meta/stats.json``.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    data: FilePlace
    start: int
    videos: Mapping[str, VideoPlace] = field(default_factory=dict)
    meta: FilePlace | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    stats: Mapping[str, Stats] = field(default_factory=dict)


def write_episodes(folder: Path, place: FilePlace, rows: Sequence[EpisodeRow]) -> None:
    """Write one file of the table.

    lerobot reads all files as one table, so they get the same columns.
    """
    path = folder / EPISODES_PATH.format(chunk_index=place.chunk, file_index=place.file)
    records = [_record(row, place) for row in rows]
    names = list(dict.fromkeys(name for record in records for name in record))
    table = pa.table({name: [record.get(name) for record in records] for name in names})
    others = [file for file in _files(folder) if file != path]
    schema = table.schema
    if others:
        known = pq.read_schema(others[0])
        new = [column for column in schema if column.name not in known.names]
        schema = pa.schema([*known, *new])
        for other in others if new else ():
            _write(other, _with_columns(read_table(other), schema))
    _write(path, _with_columns(table, schema))


def read_episodes(folder: Path, cameras: Iterable[str], count: int) -> tuple[EpisodeRow, ...]:
    """The first ``count`` episodes; rows beyond are those of an interrupted writer.

    Args:
        folder: of the dataset.
        cameras: keys of those stored as video.
        count: number of episodes of the dataset.

    Raises:
        DataError: a file is missing or broken, or an episode is missing.
    """
    rows: dict[int, EpisodeRow] = {}
    files = _files(folder)
    for path in files:
        table = read_table(path)
        wanted = [name for name in table.column_names if not name.startswith("stats/")]
        for record in table.select(wanted).to_pylist():
            row = _parse(path, record, tuple(cameras))
            rows[row.index] = row
    missing = [index for index in range(count) if index not in rows]
    if missing:
        where = files[-1] if files else folder / "meta/episodes"
        raise DataError(where, f"has no row of this episode, of {count}", missing[0])
    return tuple(rows[index] for index in range(count))


def _files(folder: Path) -> list[Path]:
    files = sorted((folder / "meta/episodes").glob("chunk-*/file-*.parquet"))
    return [file for file in files if not file.name.startswith(".")]


def _record(row: EpisodeRow, meta: FilePlace) -> dict[str, Any]:
    record: dict[str, Any] = {
        "episode_index": row.index,
        "tasks": list(row.tasks),
        "length": row.length,
        "data/chunk_index": row.data.chunk,
        "data/file_index": row.data.file,
        "dataset_from_index": row.start,
        "dataset_to_index": row.start + row.length,
    }
    for camera, video in row.videos.items():
        record[f"videos/{camera}/chunk_index"] = video.place.chunk
        record[f"videos/{camera}/file_index"] = video.place.file
        record[f"videos/{camera}/from_timestamp"] = video.start
        record[f"videos/{camera}/to_timestamp"] = video.end
    for feature, stats in to_lists(row.stats).items():
        for name, value in stats.items():
            record[f"stats/{feature}/{name}"] = value
    record["meta/episodes/chunk_index"] = meta.chunk
    record["meta/episodes/file_index"] = meta.file
    return {**record, **row.facts}


def _parse(path: Path, record: Mapping[str, Any], cameras: tuple[str, ...]) -> EpisodeRow:
    index = record.get("episode_index")
    try:
        return EpisodeRow(
            index=int(record["episode_index"]),
            length=int(record["length"]),
            tasks=tuple(record["tasks"]),
            data=FilePlace(int(record["data/chunk_index"]), int(record["data/file_index"])),
            start=int(record["dataset_from_index"]),
            videos={camera: _parse_video(record, camera) for camera in cameras},
            meta=FilePlace(
                int(record.get("meta/episodes/chunk_index") or 0),
                int(record.get("meta/episodes/file_index") or 0),
            ),
            facts={
                name: value
                for name, value in record.items()
                if name not in _COLUMNS and not name.startswith("videos/") and value is not None
            },
        )
    except KeyError as error:
        raise DataError(path, f"lacks the column {error}", index) from error
    except (TypeError, ValueError) as error:
        raise DataError(path, f"is malformed: {error}", index) from error


def _parse_video(record: Mapping[str, Any], camera: str) -> VideoPlace:
    def value(name: str) -> Any:
        return record[f"videos/{camera}/{name}"]

    place = FilePlace(int(value("chunk_index")), int(value("file_index")))
    return VideoPlace(place, float(value("from_timestamp")), float(value("to_timestamp")))


def _write(path: Path, table: pa.Table) -> None:
    with whole_file(path) as partial:
        pq.write_table(table, partial, compression="snappy")


def _with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns of a schema; what it lacks is null."""
    columns = [
        table[column.name].cast(column.type)
        if column.name in table.column_names
        else pa.nulls(len(table), column.type)
        for column in schema
    ]
    return pa.table(columns, schema=schema)
