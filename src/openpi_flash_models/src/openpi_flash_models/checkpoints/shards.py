"""A model's tensors in one safetensors file, or in several with an index beside them.

The index is Hugging Face's ``model.safetensors.index.json``: ``weight_map`` says which file has a
tensor. Large checkpoints are split this way.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from openpi_flash_models.checkpoints.tensor_file import TensorEntry, TensorFile
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.files import read_json

MODEL_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


class ShardedTensors:
    """Several files open for reading, with the interface of one :class:`TensorFile`.

    Attributes:
        path: of the index.
        tensors: what the files hold.
        metadata: the strings that their writer left.

    Raises:
        CheckpointError: the index or one of its files is missing or broken, or they disagree.
    """

    def __init__(self, index: Path) -> None:
        self.path = index
        files = _read_index(index)
        shards = {name: _open_shard(index, name) for name in sorted(set(files.values()))}
        self.tensors: dict[str, TensorEntry] = {}
        self.metadata: dict[str, str] = {}
        self._files: dict[str, TensorFile] = {}
        for tensor, name in files.items():
            shard = shards[name]
            if tensor not in shard.tensors:
                raise CheckpointError(f"{shard.path} lacks tensor {tensor}, which {index} lists")
            self.tensors[tensor] = shard.tensors[tensor]
            self._files[tensor] = shard
        for shard in shards.values():
            self.metadata |= shard.metadata
            unlisted = sorted(shard.tensors.keys() - files.keys())
            if unlisted:
                raise CheckpointError(f"{index} does not list tensor {unlisted[0]} of {shard.path}")

    def dtype(self, name: str) -> np.dtype[Any]:
        """See :meth:`TensorFile.dtype`."""
        return self._files[name].dtype(name)

    def copy_into(self, target: np.ndarray, name: str) -> None:
        """See :meth:`TensorFile.copy_into`."""
        self._files[name].copy_into(target, name)


Tensors = TensorFile | ShardedTensors


def open_tensors(directory: Path) -> Tensors:
    """The tensors of a directory with ``model.safetensors`` or an index.

    Raises:
        CheckpointError: there is neither, or one that is broken.
    """
    index = directory / INDEX_FILE
    if not (directory / MODEL_FILE).exists() and index.exists():
        return ShardedTensors(index)
    return TensorFile(directory / MODEL_FILE)


def _read_index(index: Path) -> dict[str, str]:
    content = read_json(index, "an index of safetensors files")
    files = content.get("weight_map") if isinstance(content, Mapping) else None
    if not isinstance(files, Mapping) or not files:
        raise CheckpointError(f"{index} is not an index of safetensors files: no weight_map")
    for name in files.values():
        # a plain name: nothing outside the directory is ever read
        if not isinstance(name, str) or PurePosixPath(name).parts != (name,) or name == "..":
            raise CheckpointError(f"{index}: weight_map names {name!r}, expected a file beside it")
    return {str(tensor): str(name) for tensor, name in files.items()}


def _open_shard(index: Path, name: str) -> TensorFile:
    file = index.parent / name
    if not file.exists():
        raise CheckpointError(f"{file} is missing, which {index} lists")
    return TensorFile(file)
