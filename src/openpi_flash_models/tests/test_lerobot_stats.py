"""Statistics of LeRobot's checkpoints, of every version that has them somewhere else."""

import json
import logging
import shutil

import numpy as np
import pytest
import safetensors.numpy

from openpi_flash_models.checkpoints.convert import convert
from openpi_flash_models.checkpoints.inspect import inspect
from openpi_flash_models.checkpoints.layout import lazy_leaves
from openpi_flash_models.checkpoints.lerobot import read_lerobot_stats
from openpi_flash_models.checkpoints.statistics import read_statistics
from openpi_flash_models.config.named_configs import get_config
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.load import load_policy
from openpi_flash_models.policy.policy_protocol import InferenceControls
from openpi_flash_models.transforms.normalize import normalize, unnormalize

LIBERO = get_config("pi05_libero")
STATE, ACTION = 8, 7


def numbers(first, count):
    return np.arange(first, first + count, dtype=np.float32) / 10


def buffers(*names, state=STATE, action=ACTION):
    """Tensors as LeRobot 0.1 to 0.3 keeps them in its model file."""
    found = {"normalize_inputs.buffer_observation_image.mean": np.zeros((3, 1, 1), np.float32)}
    for place, feature, size in (
        ("normalize_inputs", "observation_state", state),
        ("normalize_targets", "action", action),
        ("unnormalize_outputs", "action", action),
    ):
        for i, name in enumerate(names):
            found[f"{place}.buffer_{feature}.{name}"] = numbers(i * 10, size)
    return found


@pytest.fixture
def old(data, tmp_path):
    """Function of buffers and modes to a checkpoint of LeRobot 0.1 to 0.3."""

    def make(extra, mapping=None):
        directory = tmp_path / "old"
        directory.mkdir()
        tensors = safetensors.numpy.load_file(data / "tiny_pi05_torch/model.safetensors")
        tensors = {f"model.{name}": values for name, values in tensors.items()} | extra
        safetensors.numpy.save_file(tensors, directory / "model.safetensors", {"vision_heads": "4"})
        config = {"type": "pi05", "chunk_size": 10, "max_action_dim": 32}
        if mapping is not None:
            config["normalization_mapping"] = mapping
        (directory / "config.json").write_text(json.dumps(config))
        shutil.copy(data / "paligemma_tokenizer.model", directory)
        return directory

    return make


@pytest.fixture
def new(tmp_path, data):
    """Function of modes and statistics to a checkpoint of a newer LeRobot."""

    def make(modes, tensors, *, after=True, relative=False):
        directory = tmp_path / "new"
        directory.mkdir()
        shutil.copy(data / "tiny_pi05_torch/model.safetensors", directory)
        (directory / "config.json").write_text(json.dumps({"type": "pi05", "vision_heads": 4}))
        pipelines = {"policy_preprocessor": "normalizer_processor"}
        if after:
            pipelines["policy_postprocessor"] = "unnormalizer_processor"
        for pipeline, step in pipelines.items():
            file = f"{pipeline}_step_5_{step}.safetensors"
            steps = [
                {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
                {
                    "registry_name": step,
                    "config": {"eps": 1e-8, "features": {}, "norm_map": modes},
                    "state_file": file,
                },
            ]
            if relative:
                steps.insert(
                    0, {"registry_name": "relative_actions_processor", "config": {"enabled": True}}
                )
            safetensors.numpy.save_file(tensors, directory / file)
            content = {"name": pipeline, "steps": steps}
            (directory / f"{pipeline}.json").write_text(json.dumps(content))
        return directory

    return make


def statistics(*names):
    tensors = {"observation.images.top.mean": np.zeros((3, 1, 1), np.float32)}
    for i, name in enumerate(names):
        tensors[f"observation.state.{name}"] = numbers(i * 10, STATE)
        tensors[f"action.{name}"] = numbers(i * 10, ACTION)
    tensors["action.count"] = np.array([5], np.int64)
    return tensors


def test_buffers_are_statistics_and_no_weights(old):
    checkpoint = old(buffers("mean", "std"))
    assert len(lazy_leaves(checkpoint)) == 51
    stats = read_statistics(checkpoint, LIBERO)
    assert stats.state.scaling == stats.actions.scaling == "mean_std"
    np.testing.assert_allclose(stats.state.mean, numbers(0, STATE))
    np.testing.assert_allclose(stats.actions.std, numbers(10, ACTION))


def test_minimum_and_maximum_become_minus_one_and_one(old):
    checkpoint = old(buffers("min", "max"), {"STATE": "MIN_MAX", "ACTION": "MIN_MAX"})
    stats = read_statistics(checkpoint, LIBERO)
    assert stats.actions.scaling == "quantile"
    ends = np.stack([numbers(0, ACTION), numbers(10, ACTION)]).astype(np.float64)
    scaled = normalize(ends, stats.actions, "quantile")
    np.testing.assert_allclose(scaled, [[-1] * ACTION, [1] * ACTION], atol=1e-6)
    np.testing.assert_allclose(unnormalize(scaled, stats.actions, "quantile"), ends, atol=1e-6)


def test_a_policy_of_an_old_checkpoint_answers_in_its_own_units(old, data):
    checkpoint = old(buffers("mean", "std"), {"STATE": "MEAN_STD", "ACTION": "MEAN_STD"})
    policy = load_policy("pi05_libero", checkpoint, dtype="float32", framework="jax")
    example = LIBERO.robot.example_observation("open the drawer")
    noise = np.zeros((10, 32), np.float32)
    ours = policy.infer(example, InferenceControls(noise=noise, num_steps=1)).actions
    assets = checkpoint / "assets/physical-intelligence/libero"
    assets.mkdir(parents=True)
    mean, std = numbers(0, STATE), numbers(10, STATE)
    field = {"mean": [0.0] * STATE, "std": [1.0] * STATE}
    state = {"mean": mean.tolist(), "std": std.tolist()}
    content = {"norm_stats": {"state": state, "actions": field}}
    (assets / "norm_stats.json").write_text(json.dumps(content))
    plain = load_policy(
        "pi05_libero", checkpoint, dtype="float32", framework="jax", normalization="mean_std"
    )
    unscaled = plain.infer(example, InferenceControls(noise=noise, num_steps=1)).actions
    expected = unscaled * numbers(10, ACTION) + numbers(0, ACTION)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


MODES = {
    "MEAN_STD": ("mean_std", ("mean", "std")),
    "MIN_MAX": ("quantile", ("min", "max")),
    "QUANTILES": ("quantile", ("q01", "q99")),
    "QUANTILE10": ("quantile", ("q10", "q90")),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", [True, False], ids=["both files", "one file"])
def test_newer_checkpoints_say_how_they_scale(mode, after, new):
    scaling, (first, second) = MODES[mode]
    tensors = statistics("mean", "std", "min", "max", "q01", "q10", "q90", "q99")
    checkpoint = new({"STATE": mode, "ACTION": mode}, tensors, after=after)
    found = read_lerobot_stats(checkpoint)
    for feature, field in (("state", found.stats.state), ("action", found.stats.actions)):
        name = "observation.state" if feature == "state" else "action"
        assert field.scaling == scaling
        low, high = (field.mean, field.std) if scaling == "mean_std" else (field.q01, field.q99)
        np.testing.assert_allclose(low, tensors[f"{name}.{first}"])
        np.testing.assert_allclose(high, tensors[f"{name}.{second}"])


def test_what_is_not_scaled_passes_through(new):
    checkpoint = new({"STATE": "IDENTITY", "ACTION": "MEAN_STD"}, statistics("mean", "std"))
    state = read_statistics(checkpoint, LIBERO).state
    values = np.linspace(-3, 3, STATE)
    np.testing.assert_array_equal(normalize(values, state, "mean_std"), values)


def test_openpis_statistics_come_first(new, data):
    checkpoint = new({"STATE": "MEAN_STD", "ACTION": "MEAN_STD"}, statistics("mean", "std"))
    assets = checkpoint / "assets/physical-intelligence/libero"
    assets.mkdir(parents=True)
    shutil.copy(data / "policy_libero_norm_stats.json", assets / "norm_stats.json")
    assert read_statistics(checkpoint, LIBERO).source == str(assets / "norm_stats.json")


@pytest.mark.parametrize("relative", [True, False])
def test_actions_that_mean_something_else_are_warned_of(relative, new, caplog):
    modes = {"STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
    checkpoint = new(modes, statistics("mean", "std"), relative=relative)
    with caplog.at_level(logging.WARNING):
        read_statistics(checkpoint, get_config("pi05_libero"))  # absolute, as LIBERO's are
    assert bool(caplog.messages) == relative
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        read_statistics(checkpoint, get_config("pi0_libero"))
    assert bool(caplog.messages) != relative


def test_statistics_that_cannot_be_used_are_named(new, old):
    checkpoint = new({"STATE": "QUANTILES", "ACTION": "MEAN_STD"}, statistics("mean", "std"))
    with pytest.raises(CheckpointError, match=r"observation.state: mode QUANTILES needs more than"):
        read_lerobot_stats(checkpoint)
    shutil.rmtree(checkpoint)
    checkpoint = new({"STATE": "LOG", "ACTION": "MEAN_STD"}, statistics("mean", "std"))
    with pytest.raises(CheckpointError, match="normalization mode 'LOG', expected one of MEAN_STD"):
        read_lerobot_stats(checkpoint)
    (checkpoint / "policy_preprocessor_step_5_normalizer_processor.safetensors").unlink()
    with pytest.raises(CheckpointError, match="normalizer_processor.safetensors is missing"):
        read_lerobot_stats(checkpoint)
    (checkpoint / "policy_preprocessor.json").write_text("[]")
    with pytest.raises(CheckpointError, match="is not a LeRobot pipeline"):
        read_lerobot_stats(checkpoint)
    (checkpoint / "policy_preprocessor.json").unlink()
    (checkpoint / "policy_preprocessor_step_5_normalizer_processor.safetensors").touch()
    with pytest.raises(CheckpointError, match="policy_preprocessor.json is missing: it says how"):
        read_lerobot_stats(checkpoint)


def test_a_pipeline_names_no_file_outside_the_checkpoint(new):
    checkpoint = new({"STATE": "MEAN_STD", "ACTION": "MEAN_STD"}, statistics("mean", "std"))
    file = checkpoint / "policy_preprocessor.json"
    content = json.loads(file.read_text())
    content["steps"][1]["state_file"] = "../../secret.safetensors"
    file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="expected a file beside it"):
        read_lerobot_stats(checkpoint)


def test_a_model_that_was_never_given_statistics_says_so(old):
    given = buffers("mean", "std")
    never = {name: np.full_like(values, np.inf) for name, values in given.items()}
    with pytest.raises(CheckpointError, match="saved before it was given any"):
        read_lerobot_stats(old(never))


def test_too_few_dimensions_are_refused(old):
    checkpoint = old(buffers("mean", "std", state=6))
    with pytest.raises(CheckpointError, match="state has 6 dimensions, the robot libero has 8"):
        read_statistics(checkpoint, LIBERO)


def test_no_statistics_at_all_is_said_only_where_it_is_true(old, tmp_path):
    checkpoint = old({})
    with pytest.raises(CheckpointError, match="the checkpoint has no statistics at all"):
        read_statistics(checkpoint, LIBERO)
    (checkpoint / "norm_stats.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"there is .*old/norm_stats.json, move it there"):
        read_statistics(checkpoint, LIBERO)


def test_a_report_lists_lerobots_statistics_and_the_configs_that_fit(old):
    report = inspect(old(buffers("mean", "std")))
    (stats,) = report.stats
    assert (stats.source, stats.state, stats.actions) == ("LeRobot", STATE, ACTION)
    assert not stats.has_quantiles
    assert "pi05_libero" in report.configs


@pytest.mark.parametrize("names", [("mean", "std"), ("min", "max")])
def test_a_converted_checkpoint_keeps_lerobots_statistics(names, old, tmp_path):
    checkpoint = old(buffers(*names))
    before = read_statistics(checkpoint, LIBERO)
    convert(checkpoint, tmp_path / "converted")
    after = read_statistics(tmp_path / "converted", LIBERO)
    values = np.linspace(-1, 2, ACTION)
    scaling = before.actions.scaling
    assert after.actions.scaling == scaling
    np.testing.assert_allclose(
        normalize(values, after.actions, scaling), normalize(values, before.actions, scaling)
    )
