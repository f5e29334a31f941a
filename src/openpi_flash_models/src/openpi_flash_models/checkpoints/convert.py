"""Converts a checkpoint between Orbax and PyTorch's safetensors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from openpi_flash_models.checkpoints import orbax, safetensors
from openpi_flash_models.checkpoints.build import building
from openpi_flash_models.checkpoints.layout import PARAMS, Layout, find_layout, lazy_leaves
from openpi_flash_models.checkpoints.leaves import LazyLeaf, LeafPath
from openpi_flash_models.checkpoints.lerobot import read_lerobot_stats, write_lerobot_stats
from openpi_flash_models.checkpoints.lora import has_lora, merge_lora
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.model.shape import TOWERS, ModelShape, check_tree
from openpi_flash_models.text.tokenizer import FILE_NAME

_MADE_BY = "openpi-flash convert-checkpoint"
_BESIDE = ("assets", "tokenizer", "fast_tokenizer", FILE_NAME)


def convert(
    source: Path,
    target: Path,
    *,
    dtype: str | None = None,
    expert_head: bool = False,
    action_horizon: int | None = None,
    replace: bool = False,
) -> Layout:
    """Write ``source`` in the layout that it does not have. LoRA adapters are merged.

    Args:
        source: a checkpoint.
        target: a new directory, or one that was written by this function.
        dtype: ``float32`` or ``bfloat16``; None keeps every number as it is.
        expert_head: see :func:`safetensors.write_safetensors`.
        action_horizon: for ``config.json``, where openpi's loader expects it.
        replace: whether to replace an earlier result.

    Returns:
        The new layout.

    Raises:
        CheckpointError: names what is missing or broken, or ``target`` is occupied.
    """
    if source.resolve().is_relative_to(target.expanduser().resolve()):
        raise CheckpointError(f"{target} holds the checkpoint that is read, choose another place")
    leaves: dict[LeafPath, Any] = lazy_leaves(source)
    if has_lora(leaves):
        leaves = dict(merge_lora({path: leaf.read() for path, leaf in leaves.items()}, str(source)))
    shape = check_tree(leaves, str(source))
    layout: Layout = "safetensors" if find_layout(source) == "orbax" else "orbax"
    manifest = {"made_by": _MADE_BY, "source": str(source.absolute()), "layout": layout}
    with building(target, manifest, replace=replace) as directory:
        if layout == "safetensors":
            safetensors.write_safetensors(
                directory / safetensors.MODEL_FILE, leaves, dtype=dtype, expert_head=expert_head
            )
            config = _torch_config(shape, leaves, dtype, action_horizon)
            (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        else:
            arrays = {path: _array(leaf, dtype) for path, leaf in leaves.items()}
            orbax.write_leaves(directory / PARAMS, arrays)
        for name in _BESIDE:
            _copy(source / name, directory / name)
        lerobot = read_lerobot_stats(source)
        if lerobot is not None:
            write_lerobot_stats(directory, lerobot)
    return layout


def _array(leaf: LazyLeaf | np.ndarray, dtype: str | None) -> np.ndarray:
    if isinstance(leaf, LazyLeaf):
        return leaf.read(dtype)
    return leaf if dtype is None else leaf.astype(orbax.DTYPES[dtype], copy=False)


def _torch_config(
    shape: ModelShape, leaves: dict[LeafPath, Any], dtype: str | None, horizon: int | None
) -> dict[str, Any]:
    """``config.json`` as openpi's converter writes it, and settings that tensors do not tell."""
    types = {str(leaf.dtype) for leaf in leaves.values()}
    return {
        "action_dim": shape.action_dim or None,
        "action_horizon": horizon,
        "paligemma_variant": _tower(shape.width, shape),
        "action_expert_variant": _tower(shape.expert_width, shape),
        "precision": dtype or (types.pop() if len(types) == 1 else "mixed"),
        "model": shape.kind,
        "vision_heads": shape.vision_heads,
        "key_heads": shape.key_heads,
    }


def _tower(width: int, shape: ModelShape) -> str | None:
    """Openpi's name of an expert's size, if it has one."""
    return next(
        (name for name, size in TOWERS.items() if (size.width, size.depth) == (width, shape.depth)),
        None,
    )


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.is_file():
        shutil.copy2(source, target)
