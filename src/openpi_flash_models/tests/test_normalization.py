"""How state and actions are scaled: the setting, the config, the checkpoint, openpi; in order."""

import dataclasses
import json
import logging

import numpy as np
import pytest

from openpi_flash_models.checkpoints.readiness import normalization_of
from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.config.named_configs import CONFIGS, get_config
from openpi_flash_models.downloads.install import MANIFEST
from openpi_flash_models.errors import CheckpointError, InferenceConfigError
from openpi_flash_models.robots import get_robot
from openpi_flash_models.transforms.norm_stats import FieldStats, NormStats, read_norm_stats
from openpi_flash_models.transforms.normalize import Normalization, normalize, unnormalize

FAST_LIBERO = get_config("pi0_fast_libero")
RELEASE = "gs://openpi-assets/checkpoints/pi0_fast_libero"


def field(**changes):
    ones = np.ones(8)
    values = {"mean": 0 * ones, "std": ones, "q01": -ones, "q99": ones} | changes
    return FieldStats(**values)


BOTH = NormStats(field(), field())


def chosen(wanted="auto", config=FAST_LIBERO, checkpoint="my_run/29999", stats=BOTH, tmp_path=None):
    place = tmp_path / checkpoint
    place.mkdir(parents=True, exist_ok=True)
    return normalization_of(wanted, config, place, stats)


def both(scaling):
    return Normalization(scaling, scaling)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_auto_is_what_openpi_trains_today(name, tmp_path):
    config = get_config(name)
    expected = "mean_std" if config.kind == "pi0" else "quantile"
    assert chosen(config=config, tmp_path=tmp_path) == both(expected)


def test_only_one_config_has_weights_of_another_scaling():
    special = {name for name, c in CONFIGS.items() if c.released_normalization is not None}
    assert special == {"pi0_fast_libero"}
    assert FAST_LIBERO.checkpoint == RELEASE


def test_the_released_weights_of_pi0_fast_libero_are_scaled_as_they_were_trained(tmp_path, caplog):
    cached = "openpi-assets/checkpoints/pi0_fast_libero"
    with caplog.at_level(logging.WARNING):
        assert chosen(checkpoint=cached, tmp_path=tmp_path) == both("mean_std")
    assert any("mean_std, as the released weights need" in text for text in caplog.messages)
    copied = tmp_path / "weights"
    copied.mkdir()
    (copied / MANIFEST).write_text(json.dumps({"url": RELEASE + "/"}))
    assert normalization_of("auto", FAST_LIBERO, copied, BOTH) == both("mean_std")
    (tmp_path / "link").symlink_to(tmp_path / cached)
    assert normalization_of("auto", FAST_LIBERO, tmp_path / "link", BOTH) == both("mean_std")


def test_weights_of_ones_own_are_scaled_as_openpi_trains_today(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert chosen(checkpoint="pi0_fast_libero/run/9", tmp_path=tmp_path) == both("quantile")
    assert any("quantile, as openpi trains today" in text for text in caplog.messages)
    for manifest in ("not json", "{}", '{"url": 3}', '{"url": "gs://mine/other"}'):
        place = tmp_path / "other"
        place.mkdir(exist_ok=True)
        (place / MANIFEST).write_text(manifest)
        assert normalization_of("auto", FAST_LIBERO, place, BOTH) == both("quantile")


@pytest.mark.parametrize("scaling", ["mean_std", "quantile"])
def test_a_setting_goes_before_all_else(scaling, tmp_path, caplog):
    lerobot = NormStats(field(scaling="mean_std"), field(scaling="quantile"))
    config = dataclasses.replace(FAST_LIBERO, normalization="mean_std")
    for checkpoint in ("pi0_fast_libero", "mine"):
        got = chosen(scaling, config, checkpoint, lerobot, tmp_path)
        assert got == both(scaling)
    assert not caplog.messages


def test_the_config_goes_before_the_checkpoint_and_that_before_openpi(tmp_path):
    lerobot = NormStats(field(scaling="mean_std"), field(scaling="quantile"))
    config = get_config("pi05_libero")
    assert chosen(config=config, stats=lerobot, tmp_path=tmp_path) == Normalization(
        "mean_std", "quantile"
    )
    config = dataclasses.replace(config, normalization="quantile")
    assert chosen(config=config, stats=lerobot, tmp_path=tmp_path) == both("quantile")


def test_statistics_that_a_scaling_needs_and_lacks_are_named(tmp_path):
    config = get_config("pi05_libero")
    no_percentiles = NormStats(field(), field(q01=None, q99=None), "stats.json")
    problem = "stats.json has no q01 and q99 of the actions, which pi0.5 needs with normalization q"
    with pytest.raises(CheckpointError, match=problem):
        chosen(config=config, stats=no_percentiles, tmp_path=tmp_path)
    assert chosen("mean_std", config, stats=no_percentiles, tmp_path=tmp_path) == both("mean_std")
    no_mean = NormStats(field(mean=None, std=None), field(), "stats.json")
    with pytest.raises(CheckpointError, match="no mean and std of the state"):
        chosen("mean_std", config, stats=no_mean, tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("scaling", "problem"),
    [
        ("mean_std", r"state\.std\[3\] is 0: .* set state\.std\[3\] to 1 "),
        ("quantile", r"state\.q99\[3\] is -1, as q01: .* set state\.q99\[3\] to 0 "),
    ],
)
def test_a_dimension_of_the_state_that_never_moved_is_refused(scaling, problem, tmp_path):
    still = np.ones(8)
    still[3] = 0
    broken = field(std=still, q99=2 * still - 1)
    config = get_config("pi05_libero")
    with pytest.raises(CheckpointError, match=problem):
        chosen(scaling, config, stats=NormStats(broken, field()), tmp_path=tmp_path)
    # actions become their mean, and the robot has no eighth number
    assert chosen(scaling, config, stats=NormStats(field(), broken), tmp_path=tmp_path)
    padded = np.append(np.ones(8), 0)
    longer = field(mean=0 * padded, std=padded, q01=-padded, q99=padded)
    assert chosen(scaling, config, stats=NormStats(longer, field()), tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"std": [1, -0.5]}, r"state\.std\[1\] is -0\.5, which no deviation can be"),
        ({"q01": [0, 3]}, r"state: the lower percentile of dimension 1 is 3, above the higher one"),
        ({"mean": [0, float("inf")]}, r"state\.mean is not a list of finite numbers"),
        ({"std": [0, 10**400]}, "norm_stats.json"),
        ({"std": [[1, 1]]}, r"state\.std is not a list of finite numbers"),
    ],
)
def test_statistics_that_cannot_be_are_refused(changes, problem, tmp_path):
    good = {"mean": [0, 0], "std": [1, 1], "q01": [-1, -1], "q99": [1, 1]}
    file = tmp_path / "assets/mine/norm_stats.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"norm_stats": {"state": good | changes, "actions": good}}))
    with pytest.raises(CheckpointError, match=problem):
        read_norm_stats(tmp_path, "mine")


@pytest.mark.parametrize("wanted", ["", "z-score", None, "QUANTILE"])
def test_a_choice_that_does_not_exist_is_refused(wanted, tmp_path):
    with pytest.raises(InferenceConfigError, match="expected one of auto, quantile, mean_std"):
        chosen(wanted, tmp_path=tmp_path)
    with pytest.raises(InferenceConfigError, match="config mine: normalization is "):
        InferenceConfig("mine", get_robot("sim_arm"), "mine", 10, normalization=wanted)


@pytest.mark.parametrize("scaling", ["mean_std", "quantile"])
def test_scaling_there_and_back_changes_nothing(scaling):
    stats = field(mean=np.arange(8.0), std=np.full(8, 3.0), q01=np.full(8, -2.0))
    values = np.random.default_rng(0).normal(size=(5, 11))
    there = normalize(values, stats, scaling)
    np.testing.assert_array_equal(there[:, 8:], values[:, 8:])
    np.testing.assert_allclose(unnormalize(there, stats, scaling), values, atol=1e-12)
