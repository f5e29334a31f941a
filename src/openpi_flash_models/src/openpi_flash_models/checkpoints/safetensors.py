"""``model.safetensors`` (openpi's PyTorch checkpoints and LeRobot's) as openpi's JAX tree.

It may be one file, or several with an index beside them (``shards.py``).

Reading needs little more memory than the result: leaves are filled tensor by tensor from the
mapped file, whose pages are released after use.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from openpi_flash_models.checkpoints.leaves import DTYPES, LazyLeaf, LeafPath, nest
from openpi_flash_models.checkpoints.lerobot import is_normalization
from openpi_flash_models.checkpoints.shards import MODEL_FILE, Tensors, open_tensors
from openpi_flash_models.checkpoints.tensor_file import TensorFile, write_tensor_file
from openpi_flash_models.checkpoints.torch_keys import (
    EMBEDDING,
    EXPERT_HEAD,
    TIED_EMBEDDING,
    Piece,
    canonical,
    model_pieces,
    read_sizes,
    without_leftovers,
)
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.files import read_json
from openpi_flash_models.model.shape import (
    ModelShape,
    check_tree,
    expected_shapes,
    refuse_differences,
)

log = logging.getLogger(__name__)

__all__ = ["MODEL_FILE", "lazy_leaves", "read_safetensors", "write_safetensors"]
_VISION_HEADS, _KEY_HEADS = "vision_heads", "key_heads"


def read_safetensors(
    file: Path, *, dtype: str | None = None, vision_heads: int | None = None
) -> dict[str, Any]:
    """Read a whole file.

    Args:
        file: ``model.safetensors``, or where it would be beside its index; a ``config.json``
            beside it may say ``vision_heads``.
        dtype: ``float32`` or ``bfloat16`` to cast to; None keeps what is stored.
        vision_heads: of the vision tower, if neither its width nor ``config.json`` tells them.

    Returns:
        The nested tree, ``{"params": ...}``, equal to what the Orbax reader gives.

    Raises:
        CheckpointError: names the file, and the tensors at fault.
    """
    leaves = lazy_leaves(file, vision_heads=vision_heads)
    return nest({path: leaf.read(dtype) for path, leaf in leaves.items()})


def lazy_leaves(file: Path, *, vision_heads: int | None = None) -> dict[LeafPath, LazyLeaf]:
    """Every leaf of the file, checked, none read yet.

    Raises:
        CheckpointError: names the file, and the tensors that are missing, unexpected, mis-shaped.
    """
    tensors = open_tensors(file.parent) if file.name == MODEL_FILE else TensorFile(file)
    names: dict[str, str] = {}
    for name in tensors.tensors:
        if is_normalization(name):
            continue  # statistics, not weights: lerobot.py reads them
        key = canonical(name)
        if key in names:
            raise CheckpointError(f"{file}: tensors {names[key]} and {name} are the same one")
        names[key] = name
    kept = without_leftovers(names)
    skipped = len(names) - len(kept)
    if skipped:
        log.debug("%s: %d tensors that no model reads are skipped", file, skipped)
    hints = _hints(tensors)
    shapes = {key: tensors.tensors[name].shape for key, name in kept.items()}
    sizes = read_sizes(
        shapes, str(file), vision_heads or hints.get(_VISION_HEADS), hints.get(_KEY_HEADS, 1)
    )
    pieces = model_pieces(sizes)
    expected = {piece.key: piece.shape for group in pieces.values() for piece in group}
    refuse_differences(expected, shapes, str(file))
    return {
        tuple(leaf.split("/")): _lazy(tensors, kept, shape, pieces[leaf])
        for leaf, shape in expected_shapes(sizes).items()
    }


def write_safetensors(
    file: Path,
    leaves: Mapping[LeafPath, np.ndarray | LazyLeaf],
    *,
    dtype: str | None = None,
    expert_head: bool = False,
) -> None:
    """Write openpi's PyTorch file of a tree; one leaf is in memory at a time.

    Args:
        file: is replaced atomically.
        leaves: of a pi0, pi0.5 or pi0-FAST model.
        dtype: ``float32`` or ``bfloat16`` to cast to; None keeps what is stored.
        expert_head: also write zeros for the action expert's output head: openpi's own loader
            requires it and never reads it.

    Raises:
        CheckpointError: the leaves are not a whole model.
    """
    sizes = check_tree(leaves, f"the tree for {file}")
    pieces = model_pieces(sizes)
    target = None if dtype is None else DTYPES[dtype]
    # wide numbers first, so that every tensor is aligned to its own size
    order = sorted(
        pieces, key=lambda name: -(target or leaves[tuple(name.split("/"))].dtype).itemsize
    )
    entries = {
        piece.key: (target or leaves[tuple(name.split("/"))].dtype, piece.shape)
        for name in order
        for piece in pieces[name]
    }
    if expert_head and sizes.expert_width:
        last = entries[pieces[order[-1]][-1].key][0]
        entries[EXPERT_HEAD] = (last, (sizes.vocabulary, sizes.expert_width))
    metadata = {TIED_EMBEDDING: EMBEDDING, "format": "pt"} | {
        key: str(value) for key, value in _written_hints(sizes).items()
    }
    write_tensor_file(file, entries, _blocks(leaves, order, pieces, entries, dtype), metadata)


def _blocks(
    leaves: Mapping[LeafPath, np.ndarray | LazyLeaf],
    order: list[str],
    pieces: Mapping[str, list[Piece]],
    entries: Mapping[str, Any],
    dtype: str | None,
) -> Iterator[tuple[str, np.ndarray | None]]:
    for name in order:
        leaf = leaves[tuple(name.split("/"))]
        values = leaf.read(dtype) if isinstance(leaf, LazyLeaf) else leaf
        for piece in pieces[name]:
            part = values[piece.index]
            part = part.transpose(piece.axes) if piece.axes else part
            yield piece.key, part.reshape(piece.shape).astype(entries[piece.key][0], copy=False)
    if EXPERT_HEAD in entries:
        yield EXPERT_HEAD, None


def _lazy(
    tensors: Tensors, names: Mapping[str, str], shape: tuple[int, ...], pieces: list[Piece]
) -> LazyLeaf:
    stored = np.result_type(*(tensors.dtype(names[piece.key]) for piece in pieces))

    def read(dtype: np.dtype[Any], part: slice | None) -> np.ndarray:
        layers = range(shape[0])[part or slice(None)]
        leaf = np.empty((len(layers), *shape[1:]), dtype)
        for piece in pieces:
            index = piece.index
            if index and index[0] not in layers:
                continue
            target = leaf[(index[0] - layers.start, *index[1:])] if index else leaf
            into = target.transpose(piece.axes) if piece.axes else target
            tensors.copy_into(into, names[piece.key])
        return leaf

    # where a leaf is stacked, each layer has tensors of its own
    step = 1 if pieces[0].index else max(1, shape[0])
    return LazyLeaf(shape, stored, read, step)


def _hints(tensors: Tensors) -> dict[str, int]:
    """Head counts from the file's metadata (which our writer adds) or from ``config.json``."""
    found: dict[str, Any] = dict(tensors.metadata)
    config = tensors.path.parent / "config.json"
    if config.is_file():
        content = read_json(config, "a JSON object")
        if not isinstance(content, Mapping):
            raise CheckpointError(
                f"{config} is not a JSON object: it is a {type(content).__name__}"
            )
        found |= content
    hints = {}
    for name in (_VISION_HEADS, _KEY_HEADS):
        if name in found:
            try:
                hints[name] = int(found[name])
            except (ValueError, TypeError):
                hints[name] = 0
            if hints[name] < 1:
                raise CheckpointError(f"{tensors.path}: {name} is {found[name]!r}, not a count")
    return hints


def _written_hints(sizes: ModelShape) -> dict[str, int]:
    return {_VISION_HEADS: sizes.vision_heads, _KEY_HEADS: sizes.key_heads}
