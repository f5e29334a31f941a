"""Checks of cameras: images that cannot be read, repeat, stand still or are black."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.inspection.finding import Finding, shortened

MOST_REPEATED = 0.2
FROZEN_SECONDS = 1.0
SAMPLED_EPISODES = 10
_SMALL = 32
_SAME = 0.1
"""Mean difference of small images, in levels of 255, that a codec alone can make."""
_BLACK = 3.0
_AT_A_TIME = 64


def check_cameras(dataset: Dataset, still: Sequence[np.ndarray]) -> Iterator[Finding]:
    """Check the last image of every episode, and all images of some episodes.

    Args:
        dataset: read from.
        still: whether nothing moves from each frame to the next, of each episode.
    """
    count = len(dataset.episodes)
    sampled = sorted({round(i) for i in np.linspace(0, count - 1, min(count, SAMPLED_EPISODES))})
    for camera in dataset.cameras:
        unreadable: set[int] = set()
        for episode in dataset.episodes:
            try:
                dataset.images(episode.index, camera, [episode.length - 1])
            except DataError as error:
                unreadable.add(episode.index)
                message = f"{camera}: {error.path} {error.problem}"
                yield Finding("error", "images", message, episode.index)
        repeated, frozen, black = [], [], []
        for index in sampled:
            if index in unreadable:
                continue
            try:
                same, dark = _compare(dataset, index, camera)
            except DataError as error:
                message = f"{camera}: {error.path} {error.problem}"
                yield Finding("error", "images", message, index)
                continue
            moving = same & ~still[index][: len(same)]
            if moving.mean() > MOST_REPEATED:
                repeated.append(index)
            if _longest(moving) >= FROZEN_SECONDS * dataset.fps:
                frozen.append(index)
            if dark:
                black.append(index)
        yield from _findings(camera, len(sampled), repeated, frozen, black)


def _findings(
    camera: str, sampled: int, repeated: list[int], frozen: list[int], black: list[int]
) -> Iterator[Finding]:
    if frozen:
        yield Finding(
            "warning",
            "frozen images",
            f"{camera} shows one image for {FROZEN_SECONDS:g} s or more while the robot moves, in "
            f"episodes {shortened(frozen)} ({sampled} were looked at)",
        )
    only_repeated = [index for index in repeated if index not in frozen]
    if only_repeated:
        yield Finding(
            "warning",
            "repeated images",
            f"{camera} repeats more than {MOST_REPEATED:.0%} of its images while the robot moves, "
            f"in episodes {shortened(only_repeated)} ({sampled} were looked at): the camera "
            "is slower than the dataset, or drops frames",
        )
    if black:
        yield Finding(
            "warning",
            "black images",
            f"{camera} is black in episodes {shortened(black)} ({sampled} were looked at)",
        )


def _compare(dataset: Dataset, episode: int, camera: str) -> tuple[np.ndarray, bool]:
    """Whether each image is followed by the same one, and whether all are black."""
    length = dataset.episodes[episode].length
    same, brightness = [], 0.0
    before: np.ndarray | None = None
    for start in range(0, length, _AT_A_TIME):
        stop = min(start + _AT_A_TIME, length)
        images = dataset.images(episode, camera, range(start, stop))
        step = max(1, max(images.shape[1:3]) // _SMALL)
        small = images[:, ::step, ::step].astype(np.float32)
        brightness = max(brightness, float(small.mean(axis=(1, 2, 3)).max()))
        both = small if before is None else np.concatenate([before, small])
        same += list(np.abs(np.diff(both, axis=0)).mean(axis=(1, 2, 3)) < _SAME)
        before = small[-1:]
    return np.array(same or [False], np.bool_), brightness < _BLACK


def _longest(flags: np.ndarray) -> int:
    """Length of the longest run of true."""
    longest = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest
