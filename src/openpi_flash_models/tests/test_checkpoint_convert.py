"""Checkpoints in the other layout, and what a checkpoint says about itself."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from openpi_flash_models.checkpoints import layout, orbax
from openpi_flash_models.checkpoints.build import MANIFEST
from openpi_flash_models.checkpoints.convert import convert
from openpi_flash_models.checkpoints.inspect import inspect
from openpi_flash_models.checkpoints.lora import merge_lora
from openpi_flash_models.errors import CheckpointError


def write(directory, leaves):
    orbax.write_leaves(directory / "params", leaves)
    return directory


def assert_same(ours, expected):
    assert ours.keys() == expected.keys()
    for path, leaf in expected.items():
        assert ours[path].dtype == leaf.dtype
        np.testing.assert_array_equal(ours[path], leaf)


@pytest.mark.parametrize("name", ["pi05", "pi0", "pi0_fast", "lora_trained"])
def test_there_and_back_every_bit_is_the_same(name, tiny_leaves, tmp_path):
    leaves = tiny_leaves(name)
    source = write(tmp_path / "jax", leaves)
    if name == "lora_trained":
        leaves = merge_lora(leaves, "source")
    assert convert(source, tmp_path / "torch") == "safetensors"
    assert convert(tmp_path / "torch", tmp_path / "back") == "orbax"
    assert_same(layout.read_leaves(tmp_path / "torch"), leaves)
    assert_same(layout.read_leaves(tmp_path / "back"), leaves)


def test_images_of_another_size_survive_the_way_there_and_back(tiny_leaves, tmp_path):
    leaves = dict(tiny_leaves("pi05"))
    (positions,) = [path for path in leaves if path[-1] == "pos_embedding"]
    leaves[positions] = leaves[positions][:, :4]
    convert(write(tmp_path / "jax", leaves), tmp_path / "torch")
    convert(tmp_path / "torch", tmp_path / "back")
    assert_same(layout.read_leaves(tmp_path / "back"), leaves)


def test_weights_are_cast_when_asked(tiny_checkpoint, tmp_path):
    convert(tiny_checkpoint, tmp_path / "torch", dtype="bfloat16")
    convert(tmp_path / "torch", tmp_path / "back", dtype="float32")
    expected = orbax.read_leaves(tiny_checkpoint / "params")
    for path, leaf in layout.read_leaves(tmp_path / "back").items():
        assert leaf.dtype == np.float32
        np.testing.assert_array_equal(leaf, expected[path].astype(ml_dtypes.bfloat16))


def test_what_lies_beside_the_weights_comes_along(tiny_checkpoint, data, tmp_path):
    source = shutil.copytree(tiny_checkpoint, tmp_path / "source")
    shutil.copy(data / "paligemma_tokenizer.model", source)
    shutil.copytree(data / "fast", source / "fast_tokenizer")
    convert(source, tmp_path / "torch", action_horizon=50)
    names = {p.relative_to(tmp_path / "torch").as_posix() for p in (tmp_path / "torch").rglob("*")}
    assert {
        "assets/trossen/norm_stats.json",
        "paligemma_tokenizer.model",
        "fast_tokenizer/tokenizer.json",
        "model.safetensors",
        "config.json",
        MANIFEST,
    } <= names
    config = json.loads((tmp_path / "torch" / "config.json").read_text())
    assert (config["action_dim"], config["action_horizon"]) == (32, 50)
    assert (config["precision"], config["vision_heads"]) == ("float32", 4)


def test_openpis_loader_gets_the_head_that_it_insists_on(tiny_checkpoint, tmp_path):
    convert(tiny_checkpoint, tmp_path / "torch", expert_head=True)
    head = "paligemma_with_expert.gemma_expert.lm_head.weight"
    tensors = safetensors.numpy.load_file(tmp_path / "torch" / "model.safetensors")
    assert tensors[head].shape == (2048, 32)
    assert not tensors[head].any()


def test_nothing_is_replaced_but_an_earlier_result_and_only_when_asked(tiny_checkpoint, tmp_path):
    target = tmp_path / "torch"
    target.mkdir()
    (target / "mine").write_text("precious")
    for force in (False, True):
        with pytest.raises(CheckpointError, match="holds files that this command did not write"):
            convert(tiny_checkpoint, target, replace=force)
    (target / "mine").unlink()
    convert(tiny_checkpoint, target)
    with pytest.raises(CheckpointError, match="was made before; say --force"):
        convert(tiny_checkpoint, target)
    convert(tiny_checkpoint, target, dtype="bfloat16", replace=True)
    assert inspect(target).dtypes == {"bfloat16": 51}
    assert [path.name for path in tmp_path.iterdir()] == ["torch"]


def test_a_conversion_that_fails_leaves_nothing(tiny_leaves, tmp_path):
    leaves = tiny_leaves("pi05")
    del leaves["params", "time_mlp_in", "bias"]
    source = write(tmp_path / "jax", leaves)
    with pytest.raises(CheckpointError, match="missing tensor params/time_mlp_in/bias"):
        convert(source, tmp_path / "torch")
    largest = max(source.rglob("d/*"), key=lambda file: file.stat().st_size)
    orbax_source = write(tmp_path / "other", tiny_leaves("pi05"))
    largest = max(orbax_source.rglob("d/*"), key=lambda file: file.stat().st_size)
    largest.write_bytes(bytes(reversed(largest.read_bytes())))
    with pytest.raises(CheckpointError, match="cannot read tensor"):
        convert(orbax_source, tmp_path / "torch")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jax", "other"]


def test_a_conversion_in_place_is_refused(tiny_leaves, tmp_path):
    convert(write(tmp_path / "jax", tiny_leaves("pi05")), tmp_path / "torch")
    before = sorted(path.name for path in (tmp_path / "torch").iterdir())
    with pytest.raises(CheckpointError, match="torch holds the checkpoint that is read"):
        convert(tmp_path / "torch", tmp_path / "torch", replace=True)
    assert sorted(path.name for path in (tmp_path / "torch").iterdir()) == before


def test_a_report_says_what_a_checkpoint_is(tiny_checkpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path))
    report = inspect(tiny_checkpoint)
    assert (report.layout, report.shape.kind, report.shape.width) == ("orbax", "pi05", 64)
    assert (report.parameters, report.nbytes) == (414_736, 4 * 414_736)
    assert report.dtypes == {"float32": 51}
    assert [(s.asset_id, s.state, s.actions, s.has_quantiles) for s in report.stats] == [
        ("trossen", 32, 32, True)
    ]
    assert report.configs == ("pi05_aloha", "pi05_aloha_pen_uncap")
    assert (report.lora_tensors, report.tokenizer) == (0, None)


def test_a_report_counts_adapters_and_types(tiny_leaves, tmp_path):
    report = inspect(write(tmp_path / "lora", tiny_leaves("lora_trained")))
    assert report.lora_tensors == 20
    assert set(report.dtypes) == {"float32", "bfloat16"}
    assert report.stats == ()
    assert report.configs == ()


def test_a_report_names_statistics_that_cannot_be_used(tiny_checkpoint, tmp_path):
    checkpoint = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    file = checkpoint / "assets" / "trossen" / "norm_stats.json"
    stats = json.loads(file.read_text())
    stats["norm_stats"]["state"]["q99"][3] = stats["norm_stats"]["state"]["q01"][3] + 1e-6
    odd = checkpoint / "assets" / "me" / "arm" / "norm_stats.json"
    odd.parent.mkdir(parents=True)
    odd.write_text(json.dumps(stats))
    file.write_text("{")
    problems = {report.asset_id: report.problem for report in inspect(checkpoint).stats}
    assert problems["me/arm"] == "nearly constant: state 3"
    assert "is not a norm_stats.json" in problems["trossen"]
    del stats["norm_stats"]["actions"]["std"]
    file.write_text(json.dumps(stats))
    problems = {report.asset_id: report.problem for report in inspect(checkpoint).stats}
    assert problems["trossen"].endswith("is not a norm_stats.json: it lacks 'std'")
