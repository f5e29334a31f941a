"""Finds the files that hold a checkpoint's tensors.

params/                        Orbax, from openpi's JAX trainer and releases
model.safetensors              openpi's PyTorch checkpoints, and LeRobot's
model.safetensors.index.json   the same in several files

The names alone decide, so that a bucket's listing is enough.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from openpi_flash_models.checkpoints import orbax, safetensors
from openpi_flash_models.checkpoints.leaves import LazyLeaf, LeafPath
from openpi_flash_models.checkpoints.shards import INDEX_FILE, MODEL_FILE
from openpi_flash_models.errors import CheckpointError

Layout = Literal["orbax", "safetensors"]
PARAMS = "params"
_DEPTH = 2
"""Levels of names that tell the layout."""


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
        CheckpointError: it has neither; lists what it has.
    """
    check_directory(checkpoint)
    try:
        names = list(_names(checkpoint, _DEPTH))
    except OSError as error:
        raise CheckpointError(
            f"cannot read {error.filename or checkpoint}: {error.strerror or error}"
        ) from error
    return layout_of(names, str(checkpoint))


def layout_of(names: Collection[str], source: str) -> Layout:
    """The layout of a checkpoint with files (and directories) of these names.

    Args:
        names: relative to the checkpoint, with slashes; a directory's name may end in one.
        source: what to call the checkpoint in an error: a path or a URL.

    Raises:
        CheckpointError: it has no known layout; lists what it has.
    """
    if any(name.startswith(f"{PARAMS}/") for name in names):
        return "orbax"
    if MODEL_FILE in names or INDEX_FILE in names:
        return "safetensors"
    steps = {name.split("/")[0] for name in names if name.split("/")[1:2] == [PARAMS]}
    if steps:
        newest = max(steps, key=lambda name: (name.isdigit(), int(name) if name.isdigit() else 0))
        hint = f"it holds checkpoints, such as {source.rstrip('/')}/{newest}"
    elif is_params_directory(names):
        hint = f"it is the params directory itself, give {source.rstrip('/').rpartition('/')[0]}"
    else:
        tops = sorted({name.split("/")[0] for name in names})[:8]
        hint = f"it has {', '.join(tops) or 'nothing'}"
    raise CheckpointError(f"{source} has neither {PARAMS}/ nor {MODEL_FILE}: {hint}")


def is_params_directory(names: Collection[str]) -> bool:
    """Whether these are the files of a ``params`` directory itself."""
    return orbax.METADATA_FILE in names and not any(n.startswith(f"{PARAMS}/") for n in names)


def checkpoint_around(directory: Path) -> Path:
    """The checkpoint of a directory, which may be its ``params``.

    Hebbian's openpi-flash names planners by their ``params`` directory, which is enough for a
    planner: it needs no statistics.

    Raises:
        CheckpointError: there is no such directory, or a ``params`` directory of another name.
    """
    check_directory(directory)
    if not (directory / orbax.METADATA_FILE).is_file() or (directory / PARAMS).is_dir():
        return directory
    real = directory if directory.name == PARAMS else directory.resolve()
    if real.name != PARAMS:
        raise CheckpointError(
            f"{directory} is a {PARAMS} directory of another name; move it to "
            f"{directory / PARAMS}, and give {directory}"
        )
    return real.parent


def lazy_leaves(checkpoint: Path) -> dict[LeafPath, LazyLeaf]:
    """Every leaf of a checkpoint in either layout, none read yet.

    Raises:
        CheckpointError: names what is missing or broken.
    """
    if find_layout(checkpoint) == "orbax":
        return orbax.lazy_leaves(checkpoint / PARAMS)
    return safetensors.lazy_leaves(checkpoint / MODEL_FILE)


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
    lazy = safetensors.lazy_leaves(checkpoint / MODEL_FILE)
    return {path: leaf.read(dtype) for path, leaf in lazy.items()}


def _names(directory: Path, depth: int) -> list[str]:
    names = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.is_dir():
                names.append(entry.name)
                continue
            names.append(f"{entry.name}/")
            if depth > 1:
                try:
                    inside = _names(Path(entry.path), depth - 1)
                except PermissionError:
                    continue  # not a part of the model, or its reader reports it
                names += [f"{entry.name}/{name}" for name in inside]
    return names
