"""Files of a checkpoint that are not what they should be: pointers, shards, pipes."""

import json
import os
import shutil

import numpy as np
import pytest

from openpi_flash_models.actions.fast import FastTokenizer
from openpi_flash_models.checkpoints.declared import read_declared
from openpi_flash_models.checkpoints.inspect import inspect
from openpi_flash_models.checkpoints.layout import lazy_leaves
from openpi_flash_models.checkpoints.lerobot import read_lerobot_stats
from openpi_flash_models.checkpoints.shards import open_tensors
from openpi_flash_models.checkpoints.tensor_file import TensorFile
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.files import read_bytes
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer
from openpi_flash_models.transforms.norm_stats import read_norm_stats

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    "size 14467165872\n"
)


@pytest.fixture
def torch_checkpoint(data, tmp_path):
    directory = tmp_path / "torch"
    directory.mkdir()
    shutil.copy(data / "tiny_pi05_torch/model.safetensors", directory)
    config = json.loads((data / "tiny_pi05_torch/config.json").read_text()) | {"vision_heads": 4}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture
def orbax_checkpoint(tiny_checkpoint, tmp_path):
    directory = tmp_path / "orbax"
    shutil.copytree(tiny_checkpoint, directory)
    return directory


def data_files(checkpoint):
    params = checkpoint / "params"
    return sorted(path for path in params.rglob("*") if path.is_file())


READERS = {
    "model.safetensors": lazy_leaves,
    "model.safetensors.index.json": open_tensors,
    "config.json": read_declared,
    "assets/droid/norm_stats.json": lambda checkpoint: read_norm_stats(checkpoint, "droid"),
    "paligemma_tokenizer.model": lambda checkpoint: PaligemmaTokenizer(
        checkpoint / "paligemma_tokenizer.model"
    ),
    "processor_config.json": FastTokenizer,
    "policy_preprocessor.json": read_lerobot_stats,
}


@pytest.mark.parametrize("name", READERS)
def test_a_git_lfs_pointer_is_named_in_place_of_any_file(name, tmp_path):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(POINTER)
    with pytest.raises(CheckpointError, match=f"{name} is a Git LFS pointer.*; run git lfs pull"):
        READERS[name](tmp_path)


def test_a_pointer_in_place_of_a_fast_tokenizer_is_named(data, tmp_path):
    shutil.copytree(data / "fast", tmp_path / "fast")
    (tmp_path / "fast" / "tokenizer.json").write_text(POINTER)
    with pytest.raises(CheckpointError, match="tokenizer.json is a Git LFS pointer"):
        FastTokenizer(tmp_path / "fast")


def test_a_pointer_in_place_of_any_orbax_file_is_named(orbax_checkpoint):
    files = data_files(orbax_checkpoint)
    assert {"_METADATA", "manifest.ocdbt"} <= {file.name for file in files}
    for file in files:
        content = file.read_bytes()
        file.write_text(POINTER)
        with pytest.raises(CheckpointError, match=f"{file.name} is a Git LFS pointer"):
            lazy_leaves(orbax_checkpoint)
        file.write_bytes(content)
    assert len(lazy_leaves(orbax_checkpoint)) == 51


def test_a_file_that_begins_like_a_pointer_and_is_none_is_judged_as_what_it_is(tmp_path):
    (tmp_path / "config.json").write_text("version 1.0 of something")
    with pytest.raises(CheckpointError, match="config.json is not a JSON object"):
        read_declared(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_pipe_is_refused_and_not_waited_for(name, tmp_path):
    os.mkfifo(tmp_path / name)
    read = TensorFile if name.endswith(".safetensors") else read_bytes
    with pytest.raises(CheckpointError, match=f"{name} is not a regular file"):
        read(tmp_path / name)


def split(checkpoint, count=3):
    """Cut ``model.safetensors`` into shards with an index, as Hugging Face's tools do."""
    import safetensors.numpy

    file = checkpoint / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    names = sorted(tensors)
    weight_map = {}
    for part in range(count):
        name = f"model-{part + 1:05}-of-{count:05}.safetensors"
        own = {tensor: tensors[tensor] for tensor in names[part::count]}
        safetensors.numpy.save_file(own, checkpoint / name, {"vision_heads": "4"})
        weight_map |= dict.fromkeys(own, name)
    file.unlink()
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


def test_shards_are_read_as_one_file(torch_checkpoint):
    whole = {path: leaf.read() for path, leaf in lazy_leaves(torch_checkpoint).items()}
    split(torch_checkpoint)
    parts = lazy_leaves(torch_checkpoint)
    assert parts.keys() == whole.keys()
    for path, leaf in parts.items():
        np.testing.assert_array_equal(leaf.read(), whole[path])
    assert inspect(torch_checkpoint).layout == "safetensors"


def test_a_shard_that_is_missing_cut_or_a_pointer_is_named(torch_checkpoint):
    split(torch_checkpoint)
    shard = torch_checkpoint / "model-00002-of-00003.safetensors"
    content = shard.read_bytes()
    shard.write_text(POINTER)
    with pytest.raises(CheckpointError, match="00002-of-00003.safetensors is a Git LFS pointer"):
        lazy_leaves(torch_checkpoint)
    shard.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match="00002-of-00003.safetensors .*copied in part"):
        lazy_leaves(torch_checkpoint)
    shard.unlink()
    with pytest.raises(CheckpointError, match="00002-of-00003.safetensors is missing, which"):
        lazy_leaves(torch_checkpoint)


def test_an_index_that_contradicts_its_shards_is_refused(torch_checkpoint):
    index = split(torch_checkpoint)
    file = torch_checkpoint / "model.safetensors.index.json"

    def refused(weight_map, problem):
        file.write_text(json.dumps(index | {"weight_map": weight_map}))
        with pytest.raises(CheckpointError, match=problem):
            lazy_leaves(torch_checkpoint)

    files = index["weight_map"]
    first = next(iter(files))
    refused(files | {"another": files[first]}, "lacks tensor another, which")
    refused({k: v for k, v in files.items() if k != first}, f"does not list tensor {first}")
    refused({}, "no weight_map")
    refused([], "no weight_map")
    refused(files | {first: 3}, "weight_map names 3, expected a file beside it")


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b", "..", "."])
def test_an_index_names_no_file_outside_the_checkpoint(name, torch_checkpoint):
    index = split(torch_checkpoint)
    index["weight_map"][next(iter(index["weight_map"]))] = name
    (torch_checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="expected a file beside it"):
        lazy_leaves(torch_checkpoint)
