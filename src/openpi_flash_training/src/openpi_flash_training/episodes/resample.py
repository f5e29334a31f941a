"""Streams of different rates at the frames of a dataset. Pure.

The rule:

1. The frames of an episode are ``1 / fps`` apart. The first is where the last of the streams
   begins, the last is before the first of the streams ends.
2. At a frame, each stream has its newest sample at or before the frame's time (a millisecond later
   is the same time): nothing is interpolated, and nothing comes from the future.
3. A camera or measurement that is silent for at most ``max_gap`` keeps its last sample (the frames
   are counted as held). Where it is silent for longer, the frames without a sample of the last
   ``max_gap`` are left out, and the episode is cut there in two.
4. A command or a text holds until the next one. It has to be there at the first frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

_SECOND = 1_000_000_000
SAME_TIME_NS = 1_000_000
"""Clocks and roundings differ by less; a camera at the dataset's own rate would flicker."""


@dataclass(frozen=True)
class ResampleRule:
    """How streams become frames.

    Attributes:
        fps: frames a second.
        max_gap: longest silence of a camera or measurement that is bridged, s.
        min_length: shortest piece that is kept, s.
    """

    fps: int
    max_gap: float = 0.5
    min_length: float = 1.0

    @property
    def max_gap_ns(self) -> int:
        """The longest silence in ns."""
        return round(self.max_gap * _SECOND)

    @property
    def min_frames(self) -> int:
        """Frames of the shortest piece."""
        return max(2, round(self.min_length * self.fps))


@dataclass(frozen=True)
class StreamReport:
    """What resampling did to a stream.

    Attributes:
        rate: median rate of its samples, Hz; 0 of a single one.
        samples: how many there are.
        held: frames that repeat the sample of the frame before, though the stream is fast enough
            for a new one.
        skipped: samples that no frame shows, of the time that frames cover.
        longest_gap: longest time between two samples, s.
        is_command: whether a sample holds until the next one, so that no gap is too long.
    """

    rate: float
    samples: int
    held: int
    skipped: int
    longest_gap: float
    is_command: bool = False


@dataclass(frozen=True)
class Resampled:
    """The frames of an episode.

    Attributes:
        pieces: times of the frames of each piece, int64 [T], ns.
        left_out: frames that are in no piece.
        streams: by name.
    """

    pieces: tuple[np.ndarray, ...]
    left_out: int
    streams: Mapping[str, StreamReport]


def resample(
    senses: Mapping[str, np.ndarray], commands: Mapping[str, np.ndarray], rule: ResampleRule
) -> Resampled:
    """The times of the frames.

    Args:
        senses: times of cameras and measurements by name, int64 [N], ns, rising; N at least 1.
        commands: likewise of commands and texts.
        rule: how.
    """
    begin = max(int(times[0]) for times in (*senses.values(), *commands.values()))
    end = min(int(times[-1]) for times in senses.values())
    count = max(0, (end - begin + SAME_TIME_NS) * rule.fps // _SECOND + 1)
    frames = begin + np.arange(count, dtype=np.int64) * _SECOND // rule.fps
    fresh = np.ones(count, np.bool_)
    for times in senses.values():
        fresh &= frames - times[newest(times, frames)] <= rule.max_gap_ns
    pieces = tuple(piece for piece in runs(frames, fresh) if len(piece) >= rule.min_frames)
    kept = sum(len(piece) for piece in pieces)
    streams = {name: _report(times, pieces, rule) for name, times in senses.items()}
    for name, times in commands.items():
        streams[name] = replace(_report(times, pieces, rule), is_command=True)
    return Resampled(pieces, count - kept, streams)


def newest(times: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Number of the newest sample at or before each frame.

    Args:
        times: int64 [N], rising.
        frames: int64 [T], none before the first sample.
    """
    return np.searchsorted(times, frames + SAME_TIME_NS, side="right") - 1


def runs(frames: np.ndarray, good: np.ndarray) -> list[np.ndarray]:
    """The runs of frames that are good one after another.

    Args:
        frames: [T], of any kind.
        good: bool [T].
    """
    cuts = np.flatnonzero(np.diff(good)) + 1
    return [
        run
        for run, ok in zip(np.split(frames, cuts), np.split(good, cuts), strict=True)
        if len(ok) and ok[0]
    ]


def _report(times: np.ndarray, pieces: tuple[np.ndarray, ...], rule: ResampleRule) -> StreamReport:
    steps = np.diff(times)
    period = float(np.median(steps)) if len(steps) else 0.0
    held = skipped = 0
    for piece in pieces:
        shown = np.diff(newest(times, piece))
        if 0 < period <= 1.05 * _SECOND / rule.fps:
            held += int((shown == 0).sum())
        skipped += int(np.maximum(shown - 1, 0).sum())
    return StreamReport(
        rate=_SECOND / period if period else 0.0,
        samples=len(times),
        held=held,
        skipped=skipped,
        longest_gap=float(steps.max()) / _SECOND if len(steps) else 0.0,
    )
