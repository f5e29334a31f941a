"""Copies a LeRobot dataset: to another version, another rate, or behind another dataset."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from openpi_flash_training.conversion.convert import (
    ConvertOptions,
    EpisodeReport,
    not_a_success,
)
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.image_sequence import ImageSequence
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.dataset.stored_video import StoredVideo
from openpi_flash_training.dataset.video_file import VideoSettings, settings_of
from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.episodes.resample import newest

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

    At another rate, each frame has the newest values and images at or before it, and videos are
    encoded anew; at the same rate they are copied as they are, where an episode can be cut out.

    Args:
        source: folder of a dataset, v3.0, v2.1 or v2.0.
        out: folder of the copy.
        options: rate, task (None: as it is), version, how cameras are stored.
        append: go on with the dataset in ``out``.
        skip_bad: leave out episodes that cannot be read, and go on.

    Yields:
        What became of each episode.

    Raises:
        DataError: the dataset is broken, or does not fit the one in ``out``.
    """
    data = Dataset.open(source)
    kind = "video" if options.as_video else "image"
    features = {
        key: replace(feature, dtype=kind) if feature.is_image else feature
        for key, feature in data.features.items()
    }
    if append:
        writer = DatasetWriter.resume(out)
        _check(source, out, writer, features, options.rule.fps)
        features = {key: features[key] for key in writer.info.features if key in features}
    else:
        writer = DatasetWriter(
            out,
            options.rule.fps,
            features,
            options.robot_type or data.robot_type,
            video=_settings(data, options),
            version=options.version,
        )
    done = {str(facts.get("source")) for facts in writer.episode_facts()}
    for episode in data.episodes:
        name = f"{source}: episode {episode.index}"
        if name in done:
            yield EpisodeReport(name, problem="is in the dataset already")
            continue
        if options.only_successes and (why := not_a_success(episode.facts)):
            yield EpisodeReport(name, problem=why)
            continue
        frames = _frames(episode.length, data.fps, options.rule.fps)
        try:
            tasks = np.array(data.prompts(episode.index), object)[frames]
            writer.add_episode(
                options.task if options.task is not None else tasks.tolist(),
                {k: v[frames] for k, v in data.numbers(episode.index).items() if k in features},
                {
                    key: _images(data, episode.index, key, frames)
                    for key in data.cameras
                    if key in features
                },
                {
                    key: [texts[i] for i in frames]
                    for key, texts in data.texts(episode.index).items()
                    if key in features
                },
                facts={**episode.facts, "source": name, "pieces": 1},
            )
        except DataError as error:
            if not skip_bad:
                raise
            yield EpisodeReport(name, problem=error.problem)
            continue
        yield EpisodeReport(name, (len(frames),))
    writer.close()


def _frames(length: int, fps: int, wanted: int) -> np.ndarray:
    """Which frames of an episode the copy has."""
    times = np.arange(length, dtype=np.int64) * _SECOND // fps
    count = (length - 1) * wanted // fps + 1
    return newest(times, np.arange(count, dtype=np.int64) * _SECOND // wanted)


def _images(data: Dataset, episode: int, camera: str, frames: np.ndarray) -> ImageSequence:
    is_same = len(frames) == data.episodes[episode].length and (np.diff(frames) == 1).all()
    if is_same and data.features[camera].dtype == "video":
        return StoredVideo(data, episode, camera)
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
