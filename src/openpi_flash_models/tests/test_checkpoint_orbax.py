"""Orbax trees: read and written as orbax-checkpoint does, refused by name."""

import json
import os
import shutil
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from openpi_flash_models.checkpoints import orbax
from openpi_flash_models.errors import CheckpointError


def restore_with_orbax(directory):
    checkpointer = ocp.PyTreeCheckpointer()
    tree = checkpointer.metadata(directory).item_metadata.tree
    args = jax.tree.map(lambda _: ocp.ArrayRestoreArgs(restore_type=np.ndarray), tree)
    return checkpointer.restore(directory, ocp.args.PyTreeRestore(item=tree, restore_args=args))


@pytest.fixture(scope="module")
def leaves(tiny_checkpoint):
    return orbax.read_leaves(tiny_checkpoint / "params")


@pytest.fixture
def broken(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint / "params", tmp_path / "params")


def test_every_leaf_is_what_orbax_restores(tiny_checkpoint, leaves):
    restored = restore_with_orbax(tiny_checkpoint / "params")
    flat = {
        tuple(key.key for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(restored)
    }
    assert {path[:-1] for path in flat} == set(leaves)  # openpi's trailing "value" is dropped
    for path, leaf in flat.items():
        np.testing.assert_array_equal(leaves[path[:-1]], leaf)


def test_a_checkpoint_without_value_leaves_reads_the_same(leaves, tmp_path):
    ocp.PyTreeCheckpointer().save(tmp_path / "params", orbax.nest(leaves))
    plain = orbax.read_leaves(tmp_path / "params")
    assert set(plain) == set(leaves)
    for path, leaf in plain.items():
        np.testing.assert_array_equal(leaf, leaves[path])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_we_write_orbax_restores(dtype, leaves, tmp_path):
    ours = {path: leaf.astype(orbax.DTYPES[dtype]) for path, leaf in leaves.items()}
    orbax.write_leaves(tmp_path / "params", ours)
    restored = restore_with_orbax(tmp_path / "params")
    for path, leaf in ours.items():
        branch = restored
        for key in path:
            branch = branch[key]
        assert branch.dtype == leaf.dtype
        np.testing.assert_array_equal(branch, leaf)
    again = orbax.read_leaves(tmp_path / "params")
    assert {path: leaf.dtype for path, leaf in again.items()} == {
        path: leaf.dtype for path, leaf in ours.items()
    }


def test_the_dtype_asked_for_is_the_dtype_read(tiny_checkpoint, leaves):
    cast = orbax.read_leaves(tiny_checkpoint / "params", dtype="bfloat16")
    for path, leaf in cast.items():
        assert leaf.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(leaf, leaves[path].astype(ml_dtypes.bfloat16))


def test_a_checkpoint_is_never_overwritten(broken, leaves):
    with pytest.raises(CheckpointError, match="holds a checkpoint already"):
        orbax.write_leaves(broken, leaves)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no such directory: .*nowhere"):
        orbax.read_leaves(tmp_path / "nowhere")


def test_missing_metadata_is_named(broken):
    (broken / "_METADATA").unlink()
    with pytest.raises(CheckpointError, match=r"_METADATA is missing: .* copied in part"):
        orbax.read_leaves(broken)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"tree_metadata": {"oops(": 1}}', "\x80"]
)
def test_broken_metadata_is_named(broken, content):
    (broken / "_METADATA").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match="_METADATA is not Orbax metadata"):
        orbax.read_leaves(broken)


def test_metadata_without_tensors_is_refused(broken):
    (broken / "_METADATA").write_text('{"tree_metadata": {}}')
    with pytest.raises(CheckpointError, match="names no tensors"):
        orbax.read_leaves(broken)


def test_a_tensor_that_the_database_lacks_is_named(broken):
    metadata = json.loads((broken / "_METADATA").read_text())
    metadata["tree_metadata"]["('params', 'ghost', 'kernel', 'value')"] = {}
    (broken / "_METADATA").write_text(json.dumps(metadata))
    with pytest.raises(CheckpointError, match="cannot read tensor params/ghost/kernel"):
        orbax.read_leaves(broken)


def test_a_missing_database_is_an_error_of_the_checkpoint(broken):
    (broken / "manifest.ocdbt").unlink()
    with pytest.raises(CheckpointError, match="cannot read tensor params/"):
        orbax.read_leaves(broken)


def test_a_truncated_data_file_is_an_error_of_the_checkpoint(broken):
    largest = max(broken.rglob("d/*"), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot read tensor params/"):
        orbax.read_leaves(broken)


def test_a_garbled_data_file_is_an_error_of_the_checkpoint(broken):
    largest = max(broken.rglob("d/*"), key=lambda file: file.stat().st_size)
    largest.write_bytes(bytes(reversed(largest.read_bytes())))
    with pytest.raises(CheckpointError, match="cannot read tensor params/"):
        orbax.read_leaves(broken)


def test_a_leaf_read_later_is_the_leaf_read_at_once(tiny_checkpoint, leaves):
    lazy = orbax.lazy_leaves(tiny_checkpoint / "params")
    assert {path: (leaf.shape, leaf.dtype) for path, leaf in lazy.items()} == {
        path: (leaf.shape, leaf.dtype) for path, leaf in leaves.items()
    }
    path = ("params", "action_in_proj", "kernel")
    np.testing.assert_array_equal(lazy[path].read(), leaves[path])
    assert lazy[path].read("bfloat16").dtype == ml_dtypes.bfloat16


WRITE_ON_EIGHT_DEVICES = """
import sys
import jax, numpy as np, orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
assert jax.device_count() == 8
mesh = Mesh(np.array(jax.devices()).reshape(8), ("x",))
def put(value, *axes):
    return jax.device_put(value, NamedSharding(mesh, P(*axes)))
tree = {"params": {
    "rows": put(np.arange(64.0, dtype=np.float32).reshape(16, 4), "x"),
    "columns": put(np.arange(64.0, dtype=np.float32).reshape(4, 16), None, "x"),
    "everywhere": put(np.arange(6.0, dtype=np.float32).reshape(2, 3)),
}}
ocp.PyTreeCheckpointer().save(sys.argv[1], tree)
"""


def test_a_checkpoint_of_eight_devices_is_read_on_one(tmp_path):
    """Readers that leave the sharding to orbax fail here: there are no eight devices any more."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    directory = tmp_path / "params"
    subprocess.run(
        [sys.executable, "-c", WRITE_ON_EIGHT_DEVICES, directory], env=environment, check=True
    )
    leaves = orbax.read_leaves(directory)
    assert {path[-1]: leaf.shape for path, leaf in leaves.items()} == {
        "rows": (16, 4),
        "columns": (4, 16),
        "everywhere": (2, 3),
    }
    for leaf in leaves.values():
        np.testing.assert_array_equal(leaf.ravel(), np.arange(leaf.size))
