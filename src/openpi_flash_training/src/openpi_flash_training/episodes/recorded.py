"""An episode as it was recorded: every stream with times of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

INTERVENTION = "intervention"
"""The stream, and the column of a dataset, bool [1], that says whether a person commands."""


@dataclass(frozen=True)
class NumberStream:
    """Numbers that were measured or commanded.

    Attributes:
        times: int64 [N], ns, rising.
        values: float64 [N, D].
        is_command: whether a value holds until the next one, however long that takes; a
            measurement grows old.
    """

    times: np.ndarray
    values: np.ndarray
    is_command: bool = False


@dataclass(frozen=True)
class CameraStream:
    """Images of a camera, which are read when they are needed.

    Attributes:
        times: int64 [N], ns, rising.
        read: hands out images by their numbers in ``times``, which rise: uint8 [H, W, 3] of one
            size each; raises DataError.
    """

    times: np.ndarray
    read: Callable[[Sequence[int]], Iterator[np.ndarray]]


@dataclass(frozen=True)
class TextStream:
    """Words: a prompt, a subtask.

    Attributes:
        times: int64 [N], ns, rising.
        texts: N of them.
    """

    times: np.ndarray
    texts: tuple[str, ...]


@dataclass(frozen=True)
class RecordedEpisode:
    """An episode.

    Attributes:
        source: file or folder, for errors and reports.
        numbers: by name of the stream.
        cameras: likewise.
        texts: likewise.
        task: what the robot did, in words; None where the recording does not say.
        facts: further facts: whether it succeeded.
        notes: what is odd about the recording, for the report.
    """

    source: str
    numbers: Mapping[str, NumberStream]
    cameras: Mapping[str, CameraStream]
    texts: Mapping[str, TextStream] = field(default_factory=dict)
    task: str | None = None
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
