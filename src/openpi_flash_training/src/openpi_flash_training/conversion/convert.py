"""Resamples recorded episodes and writes them as a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from openpi_flash_training.conversion.camera_images import CameraImages
from openpi_flash_training.conversion.columns import (
    ColumnPlan,
    PlanOf,
    Source,
    number_features,
)
from openpi_flash_training.dataset.feature import Feature, fit_numbers
from openpi_flash_training.dataset.video_file import VideoSettings
from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.episodes.recorded import INTERVENTION, RecordedEpisode
from openpi_flash_training.episodes.resample import (
    Resampled,
    ResampleRule,
    StreamReport,
    newest,
    resample,
    runs,
)

SUBTASK, PROMPT = "subtask", "prompt"
NO_INTERVENTION = "has no intervention that is long enough"


@dataclass(frozen=True)
class ConvertOptions:
    """What a dataset is like.

    Attributes:
        rule: of resampling.
        task: in words; None: as recorded.
        robot_type: name of the robot.
        as_video: cameras as video; otherwise PNG.
        only_interventions: keep only what a person did.
        only_successes: keep only what was marked as a success.
        video: how cameras are encoded.
        version: of the format.
    """

    rule: ResampleRule
    task: str | None = None
    robot_type: str | None = None
    as_video: bool = True
    only_interventions: bool = False
    only_successes: bool = False
    video: VideoSettings = field(default_factory=VideoSettings)
    version: str = "v3.0"


@dataclass(frozen=True)
class EpisodeReport:
    """What became of a recording.

    Attributes:
        source: file or folder.
        lengths: frames of each episode that was made of it.
        left_out: frames that are in none.
        streams: what resampling did to each stream.
        notes: what is odd about it.
        problem: why it was left out; empty where it was not.
    """

    source: str
    lengths: tuple[int, ...] = ()
    left_out: int = 0
    streams: Mapping[str, StreamReport] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problem: str = ""


def convert(
    episodes: Iterable[Callable[[], RecordedEpisode]],
    plan_of: PlanOf,
    out: Path,
    options: ConvertOptions,
    *,
    append: bool = False,
    skip_bad: bool = False,
) -> Iterator[EpisodeReport]:
    """Convert episodes, one at a time.

    A dataset that was begun and interrupted, or that is appended to, keeps its episodes; a
    recording that is in it already is not converted again.

    Args:
        episodes: each reads one.
        plan_of: the columns of an episode.
        out: folder of the dataset.
        options: what it is like.
        append: go on with the dataset in ``out``.
        skip_bad: leave out recordings that cannot be used, and go on.

    Yields:
        What became of each recording.

    Raises:
        DataError: a recording cannot be used, or does not fit the dataset.
    """
    writer = DatasetWriter.resume(out) if append else None
    if writer is not None and writer.info.fps != options.rule.fps:
        writer.abandon()
        raise DataError(
            out, f"has {writer.info.fps} frames a second, not {options.rule.fps}; append at its own"
        )
    done = pieces_done(writer)
    for read in episodes:
        lengths: list[int] = []
        source = ""
        try:
            episode = read()
            source = episode.source
            there, of = done.get(source, (0, -1))
            if there == of:
                yield EpisodeReport(source, problem="is in the dataset already")
                continue
            if options.only_successes and (why := not_a_success(_facts(episode))):
                yield EpisodeReport(source, problem=why)
                continue
            plan = plan_of(episode)
            frames = _frames(episode, plan, options)
            for number, piece in enumerate(frames.pieces):
                if number < there:
                    continue
                content = _columns(episode, plan, piece, options)
                features = _features(content, plan, options)
                if writer is None:
                    writer = _new_dataset(out, features, options)
                _check_features(out, writer, features, source)
                facts = {"source": source, "pieces": len(frames.pieces), **_facts(episode)}
                writer.add_episode(
                    content.tasks, content.numbers, content.images, content.texts, facts=facts
                )
                lengths.append(len(piece))
        except DataError as error:
            if not skip_bad or Path(error.path).is_relative_to(out):
                if writer is not None and (writer.episodes or not append):
                    writer.abandon()
                raise
            yield EpisodeReport(source or error.path, tuple(lengths), problem=str(error))
            continue
        yield EpisodeReport(
            source,
            tuple(lengths),
            frames.left_out,
            frames.streams,
            (*episode.notes, *plan.notes),
            "" if lengths else _why_empty(frames, options),
        )
    if writer is None or not writer.episodes:
        if writer is not None:
            writer.abandon()
        raise DataError(out, "was not written: no recording gave an episode")
    writer.close()


def _new_dataset(
    out: Path, features: Mapping[str, Feature], options: ConvertOptions
) -> DatasetWriter:
    return DatasetWriter(
        out,
        options.rule.fps,
        features,
        options.robot_type,
        video=options.video,
        version=options.version,
    )


def pieces_done(writer: DatasetWriter | None) -> dict[str, tuple[int, int]]:
    """How many episodes the dataset has of each source, and how many it should have."""
    done: dict[str, tuple[int, int]] = {}
    for facts in writer.episode_facts() if writer is not None else ():
        source = str(facts.get("source", ""))
        done[source] = (done.get(source, (0, 0))[0] + 1, int(facts.get("pieces", 1)))
    return done


@dataclass(frozen=True)
class _Content:
    """One episode of the dataset."""

    tasks: list[str]
    numbers: dict[str, np.ndarray]
    images: dict[str, CameraImages]
    texts: dict[str, list[str]]


def _frames(episode: RecordedEpisode, plan: ColumnPlan, options: ConvertOptions) -> Resampled:
    senses = {camera: episode.cameras[camera].times for camera in plan.cameras.values()}
    commands: dict[str, np.ndarray] = {}
    for name in plan.streams:
        stream = episode.numbers[name]
        (commands if stream.is_command else senses)[name] = stream.times
    frames = resample(senses, commands, options.rule)
    if not options.only_interventions:
        return frames
    if INTERVENTION not in episode.numbers:
        raise DataError(
            episode.source, "says nothing of interventions; leave --only-interventions out"
        )
    stream = episode.numbers[INTERVENTION]
    pieces: list[np.ndarray] = []
    for piece in frames.pieces:
        at = newest(stream.times, piece)
        person = (at >= 0) & (stream.values[np.maximum(at, 0), 0] > 0.5)
        pieces += [run for run in runs(piece, person) if len(run) >= options.rule.min_frames]
    kept = sum(map(len, pieces))
    left_out = frames.left_out + sum(map(len, frames.pieces)) - kept
    return Resampled(tuple(pieces), left_out, frames.streams)


def _columns(
    episode: RecordedEpisode, plan: ColumnPlan, frames: np.ndarray, options: ConvertOptions
) -> _Content:
    numbers = {
        column: np.stack([_values(episode, s, frames, options.rule.fps) for s in sources], axis=1)
        for column, sources in plan.numbers.items()
    }
    for column, change in (plan.after or {}).items():
        numbers[column] = change(numbers[column])
    for column, feature in number_features(plan).items():
        try:
            numbers[column] = fit_numbers(feature, numbers[column], len(frames))
        except ValueError as error:
            raise DataError(episode.source, f"{column} {error}") from None
    if INTERVENTION in episode.numbers:
        stream = episode.numbers[INTERVENTION]
        at = newest(stream.times, frames)
        flags = np.where(at >= 0, stream.values[np.maximum(at, 0), 0] > 0.5, False)
        numbers[INTERVENTION] = flags[:, None]
    images = {
        column: CameraImages(episode.cameras[camera], frames, plan.image_size)
        for column, camera in plan.cameras.items()
    }
    texts = {}
    if SUBTASK in episode.texts:
        texts[SUBTASK] = _texts(episode, SUBTASK, frames, "")
    return _Content(_tasks(episode, frames, options), numbers, images, texts)


def _values(episode: RecordedEpisode, source: Source, frames: np.ndarray, fps: int) -> np.ndarray:
    stream = episode.numbers[source.stream]
    at = newest(stream.times, frames)
    values = stream.values[at, source.index]
    if source.change:
        values = np.diff(values, append=values[-1:])
    if source.change == "per_second":
        values = values * fps
    if source.per_frame:
        values = values / fps
    if source.ahead:
        ahead = np.minimum(np.arange(len(values)) + source.ahead, len(values) - 1)
        values = values[ahead]
    return values * source.scale + source.offset


def _tasks(episode: RecordedEpisode, frames: np.ndarray, options: ConvertOptions) -> list[str]:
    if options.task is not None:
        return [options.task] * len(frames)
    if PROMPT in episode.texts:
        tasks = _texts(episode, PROMPT, frames, episode.task or "")
    else:
        tasks = [episode.task or ""] * len(frames)
    if not all(tasks):
        raise DataError(episode.source, 'does not say the task; give it by --task "..."')
    return tasks


def _texts(episode: RecordedEpisode, name: str, frames: np.ndarray, before: str) -> list[str]:
    """The text at each frame; ``before`` the first one."""
    stream = episode.texts[name]
    return [stream.texts[i] if i >= 0 else before for i in newest(stream.times, frames)]


def _features(content: _Content, plan: ColumnPlan, options: ConvertOptions) -> dict[str, Feature]:
    kind = "video" if options.as_video else "image"
    features = number_features(plan)
    features |= {c: Feature(kind, images.shape[1:]) for c, images in content.images.items()}
    if INTERVENTION in content.numbers:
        features[INTERVENTION] = Feature("bool", (1,))
    features |= {column: Feature("string", (1,)) for column in content.texts}
    return features


def _check_features(
    out: Path, writer: DatasetWriter, features: Mapping[str, Feature], source: str
) -> None:
    """Refuse an episode whose columns are not those of the dataset."""
    theirs = writer.info.features
    for key in {**theirs, **features}:
        if theirs.get(key) != features.get(key):
            ours, there = _said(features.get(key)), _said(theirs.get(key))
            raise DataError(source, f"has {key} as {ours}, the dataset {out} as {there}")


def _said(feature: Feature | None) -> str:
    if feature is None:
        return "nothing"
    names = f" ({', '.join(feature.names)})" if feature.names else ""
    return f"{feature.dtype} {list(feature.shape)}{names}"


def _facts(episode: RecordedEpisode) -> dict[str, str | int | float | bool]:
    return {f"recorded.{name}": value for name, value in episode.facts.items()}


def not_a_success(facts: Mapping[str, object]) -> str:
    """Why an episode is not one that succeeded, by its facts; empty where it is.

    Args:
        facts: ``success`` of a dataset that was made by a script, ``recorded.success`` of a mark.
    """
    success = facts.get("recorded.success", facts.get("success"))
    if success is None:
        return "nobody has marked it as a success"
    return "" if success is True else "it failed"


def _why_empty(frames: Resampled, options: ConvertOptions) -> str:
    if options.only_interventions and frames.left_out:
        return NO_INTERVENTION
    return (
        f"gives no episode: it has {frames.left_out} frames, and no {options.rule.min_frames} of "
        "them in one piece"
    )
