"""Copies a LeRobot dataset: to another version, another rate, or behind another dataset."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from openpi_flash_training.conversion.convert import (
    NO_INTERVENTION,
    ConvertOptions,
    EpisodeReport,
    not_a_success,
    pieces_done,
)
from openpi_flash_training.dataset.episode_table import Fact
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.image_sequence import ImageSequence
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.dataset.stored_pngs import StoredPngs
from openpi_flash_training.dataset.stored_video import StoredVideo
from openpi_flash_training.dataset.video_file import VideoSettings, settings_of
from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.episodes.recorded import INTERVENTION
from openpi_flash_training.episodes.resample import newest, runs

log = logging.getLogger(__name__)

_SECOND = 1_000_000_000


def copy_dataset(
    source: Path,
    out: Path,
    options: ConvertOptions,
    *,
    append: bool = False,
    skip_bad: bool = False,
) -> Iterator[EpisodeReport]:
    """Copy every episode with all of its columns; behind another dataset, with those that it has.

    Of interventions alone, each that is long enough becomes an episode.

    At another rate, each frame has the newest values and images at or before it, and videos are
    encoded anew; at the same rate videos are copied as they are, where an episode can be cut out,
    and so are the PNG files of whole episodes.

    Args:
        source: folder of a dataset, v3.0, v2.1 or v2.0.
        out: folder of the copy.
        options: rate, task (None: as it is), version, how cameras are stored, what is kept.
        append: go on with the dataset in ``out``.
        skip_bad: leave out episodes that cannot be read, and go on.

    Yields:
        What became of each episode.

    Raises:
        DataError: the dataset is broken, does not fit the one in ``out``, or gave it no episode.
    """
    data = Dataset.open(source)
    if options.only_interventions:
        _check_interventions(source, data)
    kind = "video" if options.as_video else "image"
    features = {
        key: replace(feature, dtype=kind) if feature.is_image else feature
        for key, feature in data.features.items()
    }
    if append:
        writer = DatasetWriter.resume(out)
        try:
            _check(source, out, writer, features, options.rule.fps)
        except DataError:
            writer.abandon()
            raise
    else:
        writer = DatasetWriter(
            out,
            options.rule.fps,
            features,
            options.robot_type or data.robot_type,
            video=_settings(data, options),
            version=options.version,
        )
    done = pieces_done(writer)
    for episode in data.episodes:
        name = f"{source}: episode {episode.index}"
        there, of = done.get(name, (0, -1))
        if there == of:
            yield EpisodeReport(name, problem="is in the dataset already")
            continue
        if options.only_successes and (why := not_a_success(episode.facts)):
            yield EpisodeReport(name, problem=why)
            continue
        lengths: list[int] = []
        try:
            every = _frames(episode.length, data.fps, options.rule.fps)
            pieces = _pieces(data, episode.index, every, options)
            facts = {**episode.facts, "source": name, "pieces": len(pieces)}
            for frames in pieces[there:]:
                _add(writer, data, episode.index, frames, task=options.task, facts=facts)
                lengths.append(len(frames))
        except DataError as error:
            if not skip_bad:
                if writer.episodes or not append:
                    writer.abandon()
                raise
            yield EpisodeReport(name, tuple(lengths), problem=error.problem)
            continue
        left_out = len(every) - sum(map(len, pieces))
        yield EpisodeReport(
            name, tuple(lengths), left_out, problem="" if lengths else NO_INTERVENTION
        )
    if not writer.episodes:
        writer.abandon()
        raise DataError(out, f"was not written: no episode of {source} was taken")
    writer.close()


def _add(
    writer: DatasetWriter,
    data: Dataset,
    episode: int,
    frames: np.ndarray,
    *,
    task: str | None,
    facts: Mapping[str, Fact],
) -> None:
    """Add some frames of an episode, with the columns that the dataset has."""
    features = writer.info.features
    tasks = np.array(data.prompts(episode), object)[frames]
    writer.add_episode(
        task if task is not None else tasks.tolist(),
        {key: v[frames] for key, v in data.numbers(episode).items() if key in features},
        {key: _images(data, episode, key, frames) for key in data.cameras if key in features},
        {
            key: [texts[i] for i in frames]
            for key, texts in data.texts(episode).items()
            if key in features
        },
        facts=facts,
    )


def _frames(length: int, fps: int, wanted: int) -> np.ndarray:
    """Which frames of an episode the copy has."""
    times = np.arange(length, dtype=np.int64) * _SECOND // fps
    count = (length - 1) * wanted // fps + 1
    return newest(times, np.arange(count, dtype=np.int64) * _SECOND // wanted)


def _check_interventions(source: Path, data: Dataset) -> None:
    feature = data.features.get(INTERVENTION)
    if feature is None or not feature.is_number or feature.shape != (1,):
        raise DataError(
            source,
            f"has no column {INTERVENTION} of one number a frame; leave --only-interventions out",
        )


def _pieces(
    data: Dataset, episode: int, frames: np.ndarray, options: ConvertOptions
) -> list[np.ndarray]:
    """The frames of each episode that an episode becomes."""
    if not options.only_interventions:
        return [frames]
    by_person = data.numbers(episode, [INTERVENTION])[INTERVENTION][frames, 0] > 0.5
    return [run for run in runs(frames, by_person) if len(run) >= options.rule.min_frames]


def _images(data: Dataset, episode: int, camera: str, frames: np.ndarray) -> ImageSequence:
    is_same = len(frames) == data.episodes[episode].length and (np.diff(frames) == 1).all()
    if is_same:
        stored = StoredVideo if data.features[camera].dtype == "video" else StoredPngs
        return stored(data, episode, camera)
    return data.images(episode, camera, frames.tolist())


def _settings(data: Dataset, options: ConvertOptions) -> VideoSettings:
    """The source's own where its videos are copied."""
    facts = next(iter(data.info.video.values()), None)
    if facts is None or data.fps != options.rule.fps:
        return options.video
    return settings_of(facts)


def _check(
    source: Path, out: Path, writer: DatasetWriter, features: dict[str, Feature], fps: int
) -> None:
    theirs = writer.info.features
    if writer.info.fps != fps:
        raise DataError(out, f"has {writer.info.fps} frames a second, not {fps}")
    for key, their in theirs.items():
        if their != features.get(key):
            raise DataError(
                source, f"has {key} as {features.get(key)}, the dataset {out} as {their}"
            )
    left_out = [key for key in features if key not in theirs]
    if left_out:
        log.warning("%s: %s left out: %s has no such column", source, ", ".join(left_out), out)
