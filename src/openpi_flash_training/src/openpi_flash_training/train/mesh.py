"""How a training state and its batches lie on devices.

A mesh has two axes, as openpi's: ``batch`` (data parallel, parameters whole on each) and ``fsdp``
(parameters and the optimiser's state spread). A batch is spread over both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from openpi_flash_training.train.problem import SettingsError

BATCH, FSDP = "batch", "fsdp"
LEAST_SPREAD_BYTES = 4 * 2**20
"""Smaller leaves stay whole on each device; the value is openpi's (``training/sharding.py``)."""


def make_mesh(fsdp_devices: int, devices: Sequence[Any] | None = None) -> Mesh:
    """All devices of all hosts.

    Args:
        fsdp_devices: length of the axis ``fsdp``.
        devices: others than all.

    Raises:
        SettingsError: it does not divide the number of devices.
    """
    found = list(jax.devices() if devices is None else devices)
    if len(found) % fsdp_devices:
        raise SettingsError(
            f"run.fsdp_devices: is {fsdp_devices}, which does not divide the {len(found)} devices"
        )
    grid = np.array(found).reshape(-1, fsdp_devices)
    return Mesh(grid, (BATCH, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))


def check_batch(mesh: Mesh, batch_size: int, accumulation: int) -> None:
    """Check that a batch can be split over parts and devices.

    Raises:
        SettingsError: it cannot.
    """
    parts = mesh.size * accumulation
    if batch_size % parts:
        raise SettingsError(
            f"run.batch_size: is {batch_size}, expected a multiple of {parts} ({mesh.size} "
            f"devices, accumulation {accumulation})"
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch over all devices."""
    return _sharding(mesh, (BATCH, FSDP))


def part_sharding(mesh: Mesh) -> NamedSharding:
    """Parts of a batch [parts, rows, ...]: the rows of each over all devices."""
    return _sharding(mesh, None, (BATCH, FSDP))


def whole(mesh: Mesh) -> NamedSharding:
    """The same on each device."""
    return _sharding(mesh)


def state_shardings(state: Any, mesh: Mesh, least_bytes: int = LEAST_SPREAD_BYTES) -> Any:
    """Where each leaf of a state lies, as a tree like it.

    Each large leaf is split along its longest axis that the ``fsdp`` axis divides.

    Args:
        state: arrays, or their shapes and dtypes.
        mesh: of :func:`make_mesh`.
        least_bytes: smaller leaves stay whole.
    """
    count = mesh.shape[FSDP]

    def sharding(leaf: Any) -> NamedSharding:
        size = int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize
        if count == 1 or size < least_bytes or len(leaf.shape) < 2:
            return whole(mesh)
        for axis in sorted(range(len(leaf.shape)), key=lambda i: -leaf.shape[i]):
            if leaf.shape[axis] % count == 0:
                spec: list[str | None] = [None] * len(leaf.shape)
                spec[axis] = FSDP
                return _sharding(mesh, *spec)
        return whole(mesh)

    return jax.tree.map(sharding, state)


def bytes_per_device(leaf: Any, sharding: NamedSharding) -> int:
    """Bytes of one device's part of a leaf."""
    return int(np.prod(sharding.shard_shape(tuple(leaf.shape)))) * np.dtype(leaf.dtype).itemsize


def put(tree: Any, shardings: Any) -> Any:
    """Arrays of the host on the devices of all hosts; each host holds all of ``tree``."""

    def place(leaf: Any, sharding: NamedSharding) -> jax.Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(place, tree, shardings)


def put_batch(rows: Any, mesh: Mesh) -> Any:
    """A batch on the devices of all hosts; each host gives its own rows, in the hosts' order."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda leaf: _from_local(sharding, np.asarray(leaf)), rows)


def _sharding(mesh: Mesh, *axes: Any) -> NamedSharding:
    spec: Any = PartitionSpec
    return NamedSharding(mesh, spec(*axes))


_from_local: Any = jax.make_array_from_process_local_data
