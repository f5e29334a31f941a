"""Checkpoints below every name that a file system takes."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from openpi_flash_models.checkpoints import orbax
from openpi_flash_models.checkpoints.convert import convert
from openpi_flash_models.checkpoints.inspect import inspect
from openpi_flash_models.demo.checkpoint import write_demo_checkpoint
from openpi_flash_models.errors import CheckpointError

NAMES = [
    "run#2",
    "a?b=c&d",
    "a%20b",
    "%2Fetc%2Fx",
    "a b ",
    " ",
    "a\nb",
    "a\tb\x1b[31m",
    "a[1]*{x,y}|z",
    "a\\b",
    "a\\..\\b",
    "a:b;c@d",
    "~",
    "$HOME",
    "'\"`",
    "üß漢字",
    "e\u0301",
    "...",
    "-rf",
    ".hidden",
    os.fsdecode(b"not \xff\xfe utf-8"),
    "x" * 255,
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_weights_are_read_and_written_below_any_name(name, tmp_path):
    place = tmp_path / name
    leaves = {("params", "x"): np.arange(6, dtype=np.float32).reshape(2, 3)}
    orbax.write_leaves(place / "params", leaves)
    assert {path.name for path in place.iterdir()} == {"params"}
    assert (place / "params" / "_METADATA").is_file()
    (read,) = orbax.read_leaves(place / "params").values()
    np.testing.assert_array_equal(read, leaves["params", "x"])
    (lazy,) = orbax.lazy_leaves(place / "params").values()
    np.testing.assert_array_equal(lazy.read(), leaves["params", "x"])
    np.testing.assert_array_equal(np.stack(list(lazy.layers())), leaves["params", "x"])


@pytest.mark.parametrize(
    "name", ["run#2", "a\\b", "a%2Fb", "run?x", os.fsdecode(b"\xff")], ids=ascii
)
def test_no_other_directorys_weights_are_read(name, tmp_path):
    """Beside the checkpoint lies what its name means as a URL, or with slashes."""
    for number, directory in enumerate((name, "run", "a/b")):
        value = np.full(2, number, np.float32)
        orbax.write_leaves(tmp_path / directory / "params", {("params", "x"): value})
    (read,) = orbax.read_leaves(tmp_path / name / "params").values()
    assert read.tolist() == [0, 0]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_every_command_takes_any_name(name, tiny_checkpoint, tmp_path):
    source = tmp_path / name / "of weights"
    shutil.copytree(tiny_checkpoint, source)
    assert inspect(source).shape.kind == "pi05"
    there, back = tmp_path / name / "torch", tmp_path / "jax" / name
    assert convert(source, there) == "safetensors"
    assert convert(there, back) == "orbax"
    for path, leaf in orbax.read_leaves(source / "params").items():
        np.testing.assert_array_equal(orbax.read_leaves(back / "params")[path], leaf)
        break


@pytest.mark.parametrize("name", ["run#2", "a\\b", os.fsdecode(b"\xff")], ids=ascii)
def test_the_demos_checkpoint_is_written_below_any_name(name, tmp_path):
    write_demo_checkpoint(tmp_path / name)
    assert inspect(tmp_path / name / "action").configs == ("pi05_sim_arm",)


def test_a_relative_path_is_the_directory_it_names(tiny_checkpoint, tmp_path, monkeypatch):
    shutil.copytree(tiny_checkpoint, tmp_path / "weights")
    (tmp_path / "link").symlink_to(tmp_path / "weights")
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path / "beside")
    for relative in ("../weights", "./../weights/.", "../link", "../beside/../weights"):
        assert len(orbax.read_leaves(Path(relative) / "params")) == 51


def test_a_directory_is_the_one_that_was_opened_whatever_came_to_its_name(tmp_path):
    """Where a directory is opened by number, a number that is used again is another directory."""
    names = [os.fsdecode(bytes([0xFF, number])) for number in range(65, 68)]
    for number, name in enumerate(names):
        value = np.full(2, number, np.float32)
        orbax.write_leaves(tmp_path / name / "params", {("params", "x"): value})
    for _ in range(2):
        for number, name in enumerate(names):
            (read,) = orbax.read_leaves(tmp_path / name / "params").values()
            assert read.tolist() == [number, number]


def test_a_system_that_cannot_open_such_a_name_says_so(tmp_path, monkeypatch):
    directory = tmp_path / "a\\b"
    directory.mkdir()
    monkeypatch.setattr(orbax, "_OPEN_DIRECTORIES", tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="rename it to printable characters"):
        orbax.write_leaves(directory, {("params", "x"): np.zeros(2, np.float32)})
