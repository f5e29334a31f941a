"""Stores the images of a staged episode, and keeps those that count for its statistics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from openpi_flash_training.dataset.feature_stats import sampled_frames, small_image
from openpi_flash_training.dataset.image_sequence import ImageSequence
from openpi_flash_training.dataset.png import encode_png
from openpi_flash_training.dataset.stored_pngs import StoredPngs
from openpi_flash_training.dataset.stored_video import StoredVideo
from openpi_flash_training.dataset.video_file import VideoSettings, encode_video


class ImagesDifferError(Exception):
    """There are more or fewer images than said, or one has another size."""


def store_video(
    frames: ImageSequence, path: Path, fps: int, settings: VideoSettings
) -> list[np.ndarray]:
    """Store images as a video; one that is stored already is copied, where that is possible.

    Returns:
        The images that count for statistics, small.

    Raises:
        ImagesDifferError: the images are not what their shape says.
        DataError: they cannot be read or encoded.
    """
    if isinstance(frames, StoredVideo) and frames.copy_to(path):
        return [small_image(image) for image in frames.at(sampled_frames(frames.shape[0]))]
    seen: list[np.ndarray] = []
    encode_video(path, _passing(frames, seen), fps, settings)
    return seen


def store_pngs(frames: ImageSequence) -> tuple[list[bytes], list[np.ndarray]]:
    """The PNG files of images, and the images that count for statistics, small.

    Files that are stored already are taken as they are, once they have been decoded.

    Raises:
        ImagesDifferError: the images are not what their shape says.
        DataError: they cannot be read.
    """
    seen: list[np.ndarray] = []
    stored = frames.files() if isinstance(frames, StoredPngs) else [None] * frames.shape[0]
    images = zip(stored, _passing(frames, seen), strict=True)
    return [encode_png(image) if file is None else file for file, image in images], seen


def _passing(frames: ImageSequence, seen: list[np.ndarray]) -> Iterator[np.ndarray]:
    length, *shape = frames.shape
    sampled = set(sampled_frames(length))
    count = 0
    for frame in frames:
        if list(frame.shape) != shape or count == length:
            raise ImagesDifferError(
                f"image {count} is {list(frame.shape)}, expected {length} of {shape}"
            )
        if count in sampled:
            seen.append(small_image(frame).copy())
        count += 1
        yield frame
    if count != length:
        raise ImagesDifferError(f"{count} images, not {length}")
