import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpi_client import image_tools

from openpi_flash_models.errors import CheckpointError, ObservationError
from openpi_flash_models.transforms.delta import absolute_actions, delta_mask, relative_actions
from openpi_flash_models.transforms.images import parse_image, resize_with_pad
from openpi_flash_models.transforms.norm_stats import FieldStats, read_norm_stats
from openpi_flash_models.transforms.normalize import (
    normalize_quantile,
    normalize_zscore,
    unnormalize_quantile,
    unnormalize_zscore,
)


@pytest.fixture(scope="module")
def arrays(data):
    return dict(np.load(data / "transforms.npz"))


@pytest.fixture
def stats(data, tmp_path):
    directory = tmp_path / "assets" / "robot"
    directory.mkdir(parents=True)
    text = (data / "transforms_norm_stats.json").read_text()
    (directory / "norm_stats.json").write_text(text)
    return read_norm_stats(tmp_path, "robot")


def test_quantile_normalisation_equals_openpis_both_ways(arrays, stats):
    normalised = normalize_quantile(arrays["raw_state"], stats.state)
    np.testing.assert_allclose(normalised, arrays["quantile/state"], rtol=1e-12)
    back = unnormalize_quantile(normalised, stats.state)
    np.testing.assert_allclose(back, arrays["quantile/state_back"], rtol=1e-12)


def test_zscore_normalisation_equals_openpis_both_ways(arrays, stats):
    normalised = normalize_zscore(arrays["raw_state"], stats.state)
    np.testing.assert_allclose(normalised, arrays["zscore/state"], rtol=1e-12)
    back = unnormalize_zscore(normalised, stats.state)
    np.testing.assert_allclose(back, arrays["zscore/state_back"], rtol=1e-12)


def test_zscores_cut_padded_statistics_and_pass_padded_actions_through():
    mean, std = np.arange(32.0), np.arange(1.0, 33.0)
    x = np.linspace(-3, 3, 14)
    padded = FieldStats(mean, std, None, None)
    short = FieldStats(mean[:7], std[:7], None, None)
    np.testing.assert_array_equal(
        normalize_zscore(x, padded),
        normalize_zscore(x, FieldStats(mean[:14], std[:14], None, None)),
    )
    assert unnormalize_zscore(x, short)[7:].tolist() == x[7:].tolist()


def test_relative_actions_are_the_way_back_from_absolute_ones(arrays):
    actions, state = arrays["aloha/actions"], arrays["aloha/state"]
    mask = delta_mask(6, -1, 6, -1)
    for expected, absolute, now in zip(
        arrays["aloha/actions_delta"].reshape(-1, *actions.shape[-2:]),
        actions.reshape(-1, *actions.shape[-2:]),
        state.reshape(-1, state.shape[-1]),
        strict=True,
    ):
        np.testing.assert_allclose(relative_actions(absolute, now, mask), expected, atol=1e-6)


def test_quantile_values_are_those_of_the_formula():
    one = np.array([-1.0]), np.array([3.0])
    stats = FieldStats(np.zeros(1), np.ones(1), *one)
    assert normalize_quantile(np.zeros(1), stats)[0] == pytest.approx(-0.50000012, abs=1e-8)
    assert unnormalize_quantile(np.zeros(1), stats)[0] == pytest.approx(1.0000005, abs=1e-8)


def test_padded_statistics_are_cut_and_padded_actions_pass_through():
    low, high = np.full(32, -2.0), np.full(32, 2.0)
    padded = FieldStats(np.zeros(32), np.ones(32), low, high)
    short = FieldStats(np.zeros(7), np.ones(7), low[:7], high[:7])
    x = np.linspace(-1, 1, 14)
    np.testing.assert_array_equal(
        normalize_quantile(x, padded),
        normalize_quantile(x, FieldStats(np.zeros(14), np.ones(14), low[:14], high[:14])),
    )
    assert unnormalize_quantile(x, short)[7:].tolist() == x[7:].tolist()


def test_delta_actions_become_absolute_where_the_mask_says(arrays):
    mask = delta_mask(6, -1, 6, -1)
    assert mask == (True,) * 6 + (False,) + (True,) * 6 + (False,)
    for delta, state, absolute in zip(
        arrays["aloha/actions_delta"][0],
        arrays["aloha/state"][0],
        arrays["aloha/actions"][0],
        strict=True,
    ):
        np.testing.assert_allclose(absolute_actions(delta, state, mask), absolute, rtol=1e-12)


def test_dimensions_past_the_mask_stay_as_they_are():
    actions = np.ones((2, 5))
    assert absolute_actions(actions, np.arange(5.0), ()).tolist() == actions.tolist()
    assert absolute_actions(actions, np.arange(5.0), (False, True))[0].tolist() == [1, 2, 1, 1, 1]


@pytest.mark.parametrize(
    ("height", "width"),
    [(480, 640), (480, 848), (240, 424), (720, 1280), (224, 224), (100, 37), (37, 100), (1, 1)],
)
def test_resize_with_pad_equals_openpi_clients(height, width):
    rng = np.random.default_rng(height)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        resize_with_pad(image, 224, 224), image_tools.resize_with_pad(image, 224, 224)
    )


@given(st.integers(0, 2**32 - 1))
def test_images_come_rows_first_or_channels_first(seed):
    image = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(parse_image(image, "image"), image)
    np.testing.assert_array_equal(parse_image(image.transpose(2, 0, 1), "image"), image)


def test_float_images_are_cut_to_the_level_below():
    image = np.full((2, 2, 3), 0.999, np.float64)
    assert parse_image(image, "image").tolist() == np.full((2, 2, 3), 254).tolist()


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros((4, 4), np.uint8), r"expected an image of shape .* got \[4, 4\]"),
        (np.zeros((4, 4, 4), np.uint8), r"got \[4, 4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), r"got \[0, 4, 3\]"),
        (np.zeros((4, 4, 3), np.int32), "expected uint8 or floats in .*, got int32"),
        (np.full((4, 4, 3), 255.0), "got values from 255 to 255"),
        (np.full((4, 4, 3), np.nan), "got values from nan to nan"),
    ],
)
def test_what_is_no_image_is_refused_by_name(image, problem):
    with pytest.raises(ObservationError, match=f"images/cam_high: .*{problem}"):
        parse_image(image, "images/cam_high")


def test_missing_statistics_are_named_with_those_that_are_there(tmp_path):
    with pytest.raises(CheckpointError, match="norm_stats.json is missing: .*no statistics at all"):
        read_norm_stats(tmp_path, "droid")
    (tmp_path / "assets/trossen").mkdir(parents=True)
    (tmp_path / "assets/trossen/norm_stats.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has statistics for trossen"):
        read_norm_stats(tmp_path, "droid")


FIELD = {"mean": [0.0], "std": [1.0], "q01": [0.0], "q99": [1.0]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not a norm_stats.json"),
        ("{}", "not a norm_stats.json: it lacks 'norm_stats'"),
        (json.dumps({"norm_stats": {"state": FIELD}}), "it lacks 'actions'"),
        (
            json.dumps({"norm_stats": {"state": FIELD, "actions": FIELD | {"std": [1, 2]}}}),
            "different lengths",
        ),
        (
            json.dumps(
                {"norm_stats": {"state": FIELD, "actions": FIELD | {"q01": [float("nan")]}}}
            ),
            "q01 is not a list of finite numbers",
        ),
    ],
)
def test_broken_statistics_are_refused(tmp_path, content, problem):
    (tmp_path / "assets/x").mkdir(parents=True)
    (tmp_path / "assets/x/norm_stats.json").write_text(content)
    with pytest.raises(CheckpointError, match=problem):
        read_norm_stats(tmp_path, "x")


def test_statistics_without_quantiles_are_read_for_models_that_need_none(tmp_path):
    (tmp_path / "assets/x").mkdir(parents=True)
    field = {"mean": [0.0], "std": [1.0], "q01": None, "q99": None}
    text = json.dumps({"norm_stats": {"state": field, "actions": field}})
    (tmp_path / "assets/x/norm_stats.json").write_text(text)
    stats = read_norm_stats(tmp_path, "x")
    assert stats.state.q01 is None
    with pytest.raises(ValueError, match="no quantiles"):
        normalize_quantile(np.zeros(1), stats.state)
