"""Which files a checkpoint directory has its tensors in.

params/              Orbax, from openpi's JAX trainer and releases
model.safetensors    openpi's PyTorch checkpoints, and LeRobot's
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from openpi_flash_models.checkpoints import orbax, safetensors
from openpi_flash_models.checkpoints.leaves import LazyLeaf, LeafPath
from openpi_flash_models.errors import CheckpointError

Layout = Literal["orbax", "safetensors"]
PARAMS = "params"


def check_directory(checkpoint: Path) -> None:
    """Refuse what is no directory.

    Raises:
        CheckpointError: it is not.
    """
    if checkpoint.is_file():
        raise CheckpointError(f"{checkpoint} is a file, give the directory that it is in")
    if not checkpoint.is_dir():
        raise CheckpointError(f"no such checkpoint directory: {checkpoint}")


def find_layout(checkpoint: Path) -> Layout:
    """The layout of a checkpoint; Orbax where it has both.

    Raises:
        CheckpointError: it has neither; says what it has instead.
    """
    check_directory(checkpoint)
    if (checkpoint / PARAMS).is_dir():
        return "orbax"
    if (checkpoint / safetensors.MODEL_FILE).is_file():
        return "safetensors"
    steps = [path.name for path in checkpoint.iterdir() if (path / PARAMS).is_dir()]
    if steps:
        newest = max(steps, key=lambda name: (name.isdigit(), int(name) if name.isdigit() else 0))
        hint = f"it holds checkpoints, such as {checkpoint / newest}"
    elif (checkpoint / orbax.METADATA_FILE).is_file():
        hint = f"it is the params directory itself, give {checkpoint.parent}"
    else:
        names = sorted(path.name for path in checkpoint.iterdir())[:8]
        hint = f"it has {', '.join(names) or 'nothing'}"
    raise CheckpointError(
        f"{checkpoint} has neither {PARAMS}/ nor {safetensors.MODEL_FILE}: {hint}"
    )


def lazy_leaves(checkpoint: Path) -> dict[LeafPath, LazyLeaf]:
    """Every leaf of a checkpoint in either layout, none read yet.

    Raises:
        CheckpointError: names what is missing or broken.
    """
    if find_layout(checkpoint) == "orbax":
        return orbax.lazy_leaves(checkpoint / PARAMS)
    return safetensors.lazy_leaves(checkpoint / safetensors.MODEL_FILE)


def read_leaves(checkpoint: Path, *, dtype: str | None = None) -> dict[LeafPath, Any]:
    """Every leaf of a checkpoint in either layout, in memory.

    Args:
        checkpoint: the directory that holds ``params/`` or ``model.safetensors``.
        dtype: ``float32`` or ``bfloat16`` to cast floating leaves to; None keeps what is stored.

    Raises:
        CheckpointError: names what is missing or broken.
    """
    if find_layout(checkpoint) == "orbax":
        return orbax.read_leaves(checkpoint / PARAMS, dtype=dtype)
    lazy = safetensors.lazy_leaves(checkpoint / safetensors.MODEL_FILE)
    return {path: leaf.read(dtype) for path, leaf in lazy.items()}
