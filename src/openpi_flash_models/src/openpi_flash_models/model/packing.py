"""Removes masked inputs, and joins observations to batches. Numpy only.

Masked cameras and prompt padding take no positions and are never attended to, so a batch without
them gives the same result. Sizes are rounded up to buckets, so that a server compiles a few
programs in its warm-up and none later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from openpi_flash_models.model.inputs import ModelInputs

BATCH_BUCKETS = (1, 2, 4, 8)
MAX_BATCH = BATCH_BUCKETS[-1]


def pack(inputs: ModelInputs, token_buckets: Sequence[int]) -> ModelInputs:
    """The same observations with less padding.

    Args:
        inputs: a batch of numpy arrays.
        token_buckets: prompt lengths to round up to; the batch's own length is always one.

    Returns:
        A batch in which each row's cameras come first, in order, and the slots that no row uses
        are gone.
    """
    mask = np.asarray(inputs.image_mask)
    cameras = max(1, int(mask.sum(axis=1).max()))
    images, image_mask = inputs.images, mask
    if cameras < mask.shape[1]:
        order = np.argsort(~mask, axis=1, kind="stable")[:, :cameras]
        rows = np.arange(len(mask))[:, None]
        images, image_mask = np.asarray(images)[rows, order], mask[rows, order]
    longest = _longest(np.asarray(inputs.token_mask))
    length = bucket_of(longest, token_buckets, np.shape(inputs.tokens)[1])
    return ModelInputs(
        images=images,
        image_mask=image_mask,
        tokens=inputs.tokens[:, :length],
        token_mask=inputs.token_mask[:, :length],
        state=inputs.state,
    )


def bucket_of(length: int, buckets: Sequence[int], most: int) -> int:
    """The smallest bucket that holds ``length``, or ``most`` if none does."""
    return min((bucket for bucket in buckets if length <= bucket < most), default=most)


def join(rows: Sequence[ModelInputs]) -> ModelInputs:
    """Join batches to one; all have the same numbers of cameras and prompt slots."""

    def joined(name: str) -> np.ndarray | None:
        parts = [getattr(row, name) for row in rows]
        return None if parts[0] is None else np.concatenate(parts)

    return ModelInputs(
        images=joined("images"),
        image_mask=joined("image_mask"),
        tokens=joined("tokens"),
        token_mask=joined("token_mask"),
        state=joined("state"),
    )


def fill_batch(count: int) -> np.ndarray:
    """Row indices that fill ``count`` rows up to a batch bucket: the last row is repeated.

    Raises:
        ValueError: more rows than the largest batch.
    """
    if not 1 <= count <= MAX_BATCH:
        raise ValueError(f"a batch has 1 to {MAX_BATCH} rows, got {count}")
    size = next(bucket for bucket in BATCH_BUCKETS if count <= bucket)
    return np.minimum(np.arange(size), count - 1)


def take_rows(inputs: ModelInputs, rows: np.ndarray) -> ModelInputs:
    """The rows of a batch, in this order."""

    def taken(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else np.asarray(values)[rows]

    return ModelInputs(
        images=taken(inputs.images),
        image_mask=taken(inputs.image_mask),
        tokens=taken(inputs.tokens),
        token_mask=taken(inputs.token_mask),
        state=taken(inputs.state),
    )


def sized(inputs: ModelInputs, cameras: int, length: int) -> ModelInputs:
    """The same inputs with this number of cameras and prompt slots in use: for a warm-up."""
    slots = np.shape(inputs.image_mask)[1]
    return dataclasses.replace(
        inputs,
        image_mask=np.arange(slots)[None] < cameras,
        token_mask=np.arange(np.shape(inputs.tokens)[1])[None] < length,
    )


def lengths_from(shortest: int, buckets: Sequence[int], most: int) -> list[int]:
    """The lengths that prompts of ``shortest`` to ``most`` tokens are rounded up to."""
    return [*(bucket for bucket in buckets if shortest <= bucket < most), most]


def _longest(mask: np.ndarray) -> int:
    """The number of slots up to the last one in use."""
    used = np.flatnonzero(mask.any(axis=0))
    return int(used[-1]) + 1 if len(used) else 1
