"""Orbax trees of tensors, read and written with tensorstore alone.

A directory holds ``_METADATA`` (JSON: which leaves there are) and one OCDBT database with a zarr
array per leaf, under the leaf's dotted path (the layout of orbax-checkpoint's
``PyTreeCheckpointHandler`` with ``use_ocdbt``). Here a leaf's name is the tuple of its path.
openpi's trainer adds a last component ``value`` to every path, released checkpoints have none: it
is dropped when all leaves have it.
"""

from __future__ import annotations

import ast
import json
import os
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from openpi_flash_models.checkpoints.leaves import DTYPES, LazyLeaf, LeafPath, cast_type, nest
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.files import read_json, refuse_lfs_pointers

METADATA_FILE = "_METADATA"
STACKED = frozenset({"layers", "encoderblock"})
"""Parts of a path below which tensors are stacked over layers, on their first axis."""
__all__ = [
    "DTYPES",
    "METADATA_FILE",
    "LeafPath",
    "lazy_leaves",
    "nest",
    "read_leaves",
    "write_leaves",
]


def read_leaves(directory: Path, *, dtype: str | None = None) -> dict[LeafPath, np.ndarray]:
    """Read every leaf of an Orbax directory.

    Args:
        directory: the one that holds ``_METADATA``.
        dtype: ``float32`` or ``bfloat16`` to cast floating leaves to; None keeps what is stored.

    Raises:
        CheckpointError: the directory, its metadata or a leaf is missing or broken.
    """
    stores, place = _open_leaves(directory)
    leaves: dict[LeafPath, np.ndarray] = {}
    for path, read in _reads_in_budget(stores):
        leaf = _finish(place, path, read)
        kind = leaf.dtype if dtype is None else cast_type(leaf.dtype, DTYPES[dtype])
        leaves[path] = leaf.astype(kind, copy=False)
    return _without_value({path: leaves[path] for path in stores})


def lazy_leaves(directory: Path) -> dict[LeafPath, LazyLeaf]:
    """Every leaf of an Orbax directory, none read yet.

    Raises:
        CheckpointError: as :func:`read_leaves`; a leaf's data may still turn out to be broken.
    """

    def lazy(path: LeafPath, store: Any) -> LazyLeaf:
        def load(dtype: np.dtype[Any], part: slice | None) -> np.ndarray:
            read = store.read() if part is None else store[part].read()
            return _finish(place, path, read).astype(dtype, copy=False)

        step = store.chunk_layout.read_chunk.shape[0] if store.rank else 1
        return LazyLeaf(tuple(store.shape), np.dtype(store.dtype.numpy_dtype), load, max(1, step))

    stores, place = _open_leaves(directory)
    return _without_value({path: lazy(path, store) for path, store in stores.items()})


def write_leaves(directory: Path, leaves: Mapping[LeafPath, np.ndarray]) -> None:
    """Write an Orbax directory that orbax-checkpoint (and openpi) restores.

    Args:
        directory: is created; must not hold a checkpoint yet.
        leaves: paths are written as they are: no ``value`` component is added.
    """
    if (directory / METADATA_FILE).exists():
        raise CheckpointError(f"{directory} holds a checkpoint already, it is not overwritten")
    directory.mkdir(parents=True, exist_ok=True)
    place = _Place(directory)
    context = ts.Context()
    # One transaction, so that the database has one version and no garbage from earlier ones.
    with ts.Transaction() as transaction:
        for path, leaf in leaves.items():
            spec = _leaf_spec(place, path, "zarr") | {
                "metadata": {"chunks": _chunk(path, leaf), "compressor": None}
            }
            store = ts.open(
                spec,
                create=True,
                dtype=leaf.dtype,
                shape=leaf.shape,
                context=context,
                transaction=transaction,
            ).result()
            store.write(leaf).result()
    tree = {
        str(path): {
            "key_metadata": [{"key": key, "key_type": 2} for key in path],
            "value_metadata": {
                "value_type": "jax.Array",
                "skip_deserialize": False,
                "write_shape": _chunk(path, leaf),
            },
        }
        for path, leaf in leaves.items()
    }
    metadata = {
        "tree_metadata": tree,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }
    # Last, so that a directory with metadata is a complete one.
    (directory / METADATA_FILE).write_text(json.dumps(metadata))


def _chunk(path: LeafPath, leaf: np.ndarray) -> list[int]:
    """The zarr chunk: one layer where layers are stacked, so that readers need less memory."""
    whole = [max(1, size) for size in leaf.shape]
    return [1, *whole[1:]] if STACKED.intersection(path) else whole


def _read_metadata(directory: Path) -> tuple[list[LeafPath], str]:
    """Paths of the leaves, and the zarr driver they need."""
    file = directory / METADATA_FILE
    if not directory.is_dir():
        raise CheckpointError(f"no such directory: {directory}")
    try:
        metadata = read_json(file, "Orbax metadata")
        paths = [tuple(map(str, ast.literal_eval(key))) for key in metadata["tree_metadata"]]
    except FileNotFoundError:
        raise CheckpointError(
            f"{file} is missing: {directory} is not an Orbax checkpoint, or was copied in part"
        ) from None
    except (ValueError, SyntaxError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{file} is not Orbax metadata: {error}") from error
    if not paths:
        raise CheckpointError(f"{file} names no tensors")
    return paths, "zarr3" if metadata.get("use_zarr3") else "zarr"


_OPEN_DIRECTORIES = Path("/proc/self/fd")


class _Place:
    """A directory under a name that tensorstore can open, valid as long as this object.

    tensorstore's file driver takes a path in UTF-8 and reads a backslash as a slash, so that it
    would open another directory. Linux gives every open directory a second name, in ASCII.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        name = os.path.realpath(directory)
        if "\\" not in name and name.isprintable():
            self.name = name
            return
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        weakref.finalize(self, os.close, opened)
        self.name = str(_OPEN_DIRECTORIES / str(opened))
        if not Path(self.name).is_dir():
            raise CheckpointError(
                f"{directory}: this system cannot open a checkpoint below such a name; rename it "
                "to printable characters without a backslash"
            )


def _open_leaves(directory: Path) -> tuple[dict[LeafPath, Any], _Place]:
    """The arrays by path, and the place, which has to live as long as they are read."""
    paths, zarr_driver = _read_metadata(directory)
    refuse_lfs_pointers(directory)
    place = _Place(directory)
    # a new one: a shared context caches an earlier directory of the same name
    context = ts.Context()
    pending = {
        path: ts.open(_leaf_spec(place, path, zarr_driver), open=True, read=True, context=context)
        for path in paths
    }
    return {path: _finish(place, path, opened) for path, opened in pending.items()}, place


def _reads_in_budget(stores: Mapping[LeafPath, Any]) -> Iterator[tuple[LeafPath, Any]]:
    """Start reads, as many at once as need no more memory than all leaves do in the end.

    A leaf is in memory twice while it is decoded. Large leaves come first, while the others are
    not in memory yet.
    """
    sizes = {path: store.size * store.dtype.numpy_dtype.itemsize for path, store in stores.items()}
    waiting = sorted(stores, key=lambda path: sizes[path])
    budget, done = sum(sizes.values()), 0
    running: dict[LeafPath, Any] = {}
    while waiting or running:
        while waiting and (
            not running
            or done + 2 * (sizes[waiting[-1]] + sum(map(sizes.__getitem__, running))) <= budget
        ):
            path = waiting.pop()
            running[path] = stores[path].read()
        path = next(iter(running))
        yield path, running.pop(path)
        done += sizes[path]


def _finish(place: _Place, path: LeafPath, future: Any) -> Any:
    try:
        return future.result()
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        raise _leaf_error(place.directory, path, error) from error


def _without_value(leaves: dict[LeafPath, Any]) -> dict[LeafPath, Any]:
    if all(path[-1] == "value" for path in leaves):
        return {path[:-1]: leaf for path, leaf in leaves.items()}
    return leaves


def _leaf_spec(place: _Place, path: LeafPath, driver: str) -> dict[str, Any]:
    return {
        "driver": driver,
        "kvstore": {
            "driver": "ocdbt",
            # not a URL, in which "#", "?" and "%" mean something
            "base": {"driver": "file", "path": f"{place.name}/"},
            "path": ".".join(path) + "/",
        },
    }


def _leaf_error(directory: Path, path: LeafPath, error: Exception) -> CheckpointError:
    detail = str(error).split(" [", 1)[0]  # tensorstore appends its own source locations
    return CheckpointError(f"{directory}: cannot read tensor {'/'.join(path)}: {detail}")
