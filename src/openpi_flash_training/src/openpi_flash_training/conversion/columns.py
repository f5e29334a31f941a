"""What becomes of an episode's streams: the columns of the dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.episodes.recorded import RecordedEpisode

STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."


@dataclass(frozen=True)
class Source:
    """One number of a column: ``stream[index] * scale + offset`` at the frame.

    Attributes:
        stream: of the episode.
        index: which of its numbers.
        scale: factor.
        offset: what is added.
        ahead: frames after the frame at which it is taken; the last frame repeats.
        change: how far the number goes until the next frame instead of where it is: in this
            ``per_step``, or as a rate ``per_second``.
        per_frame: whether the number is a rate, and what it makes in a frame is wanted.
    """

    stream: str
    index: int = 0
    scale: float = 1.0
    offset: float = 0.0
    ahead: int = 0
    change: Literal["", "per_step", "per_second"] = ""
    per_frame: bool = False


@dataclass(frozen=True)
class ColumnPlan:
    """The columns of a dataset, for one episode.

    Attributes:
        numbers: sources of each column of numbers.
        names: of the numbers of each column.
        cameras: stream of each column of images.
        image_size: height and width of images; None: as they were recorded.
        after: what is done to columns of numbers at last, by column.
        notes: for the report.
    """

    numbers: Mapping[str, tuple[Source, ...]]
    names: Mapping[str, tuple[str, ...]]
    cameras: Mapping[str, str]
    image_size: tuple[int, int] | None = None
    after: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None
    notes: tuple[str, ...] = ()

    @property
    def streams(self) -> tuple[str, ...]:
        """Streams of numbers that it needs."""
        used = (source.stream for sources in self.numbers.values() for source in sources)
        return tuple(dict.fromkeys(used))


PlanOf = Callable[[RecordedEpisode], ColumnPlan]


def need(episode: RecordedEpisode, streams: Sequence[str]) -> None:
    """Check that an episode has some streams of numbers.

    Raises:
        DataError: one is missing; names those that are there.
    """
    for stream in streams:
        if stream not in episode.numbers:
            known = ", ".join(sorted(episode.numbers)) or "no numbers"
            raise DataError(episode.source, f"lacks {stream}; it has {known}")


def need_cameras(episode: RecordedEpisode, cameras: Sequence[str]) -> None:
    """Check that an episode has some cameras.

    Raises:
        DataError: one is missing; names those that are there.
    """
    for camera in cameras:
        if camera not in episode.cameras:
            known = ", ".join(sorted(episode.cameras)) or "no cameras"
            raise DataError(episode.source, f"lacks the camera {camera}; it has {known}")


def number_features(plan: ColumnPlan) -> dict[str, Feature]:
    """The columns of numbers as features of a dataset."""
    return {
        column: Feature("float32", (len(sources),), plan.names.get(column, ()))
        for column, sources in plan.numbers.items()
    }
