"""The named configs are openpi's, value by value."""

import pytest

from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.config.named_configs import CONFIGS, config_names, get_config, register
from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.robots import get_robot

# name | model | action_dim | horizon | prompt slots | statistics | relative actions | prompt
OPENPI = """
pi0_aloha | pi0 | 32 | 50 | 48 | trossen | 12 | -
pi05_aloha | pi05 | 32 | 50 | 200 | trossen | 12 | -
pi0_aloha_towel | pi0 | 32 | 50 | 48 | trossen | 12 | fold the towel
pi0_aloha_tupperware | pi0 | 32 | 50 | 48 | trossen | 12 \
| open the tupperware and put the food on the plate
pi0_droid | pi0 | 32 | 10 | 48 | droid | 0 | -
pi0_fast_droid | pi0_fast | 8 | 10 | 250 | droid | 0 | -
pi05_droid | pi05 | 32 | 15 | 200 | droid | 0 | -
pi0_libero | pi0 | 32 | 50 | 48 | physical-intelligence/libero | 6 | -
pi0_libero_low_mem_finetune | pi0 | 32 | 50 | 48 | physical-intelligence/libero | 6 | -
pi0_fast_libero | pi0_fast | 7 | 10 | 180 | physical-intelligence/libero | 6 | -
pi0_fast_libero_low_mem_finetune | pi0_fast | 7 | 10 | 180 | physical-intelligence/libero | 6 | -
pi05_libero | pi05 | 32 | 10 | 200 | physical-intelligence/libero | 0 | -
pi0_aloha_pen_uncap | pi0 | 32 | 50 | 48 | trossen | 12 | uncap the pen
pi05_aloha_pen_uncap | pi05 | 32 | 50 | 200 | trossen | 12 | uncap the pen
pi0_fast_full_droid_finetune | pi0_fast | 8 | 16 | 180 | droid | 7 | -
pi05_full_droid_finetune | pi05 | 32 | 16 | 200 | droid | 7 | -
pi05_droid_finetune | pi05 | 32 | 16 | 200 | droid | 0 | -
pi0_aloha_sim | pi0 | 32 | 50 | 48 | lerobot/aloha_sim_transfer_cube_human | 0 | Transfer cube
paligemma_binning_droid | pi0_fast | 8 | 15 | 400 | droid | 0 | -
paligemma_fast_droid | pi0_fast | 8 | 15 | 250 | droid | 0 | -
paligemma_fast_specialist_droid | pi0_fast | 8 | 15 | 250 | droid | 0 | -
paligemma_diffusion_droid | pi0 | 8 | 10 | 48 | droid | 0 | -
pi05_droid_jointpos_polaris | pi05 | 32 | 15 | 200 | droid | 7 | -
pi0_fast_droid_jointpos_polaris | pi0_fast | 8 | 10 | 180 | droid | 7 | -
pi0_droid_jointpos_polaris | pi0 | 32 | 10 | 100 | droid | 7 | -
pi0_droid_jointpos_100k_polaris | pi0 | 32 | 10 | 100 | droid | 7 | -
paligemma_binning_droid_jointpos | pi0_fast | 8 | 15 | 600 | droid | 7 | -
"""
ROWS = [
    [cell.strip() for cell in line.split("|")]
    for line in OPENPI.replace("\\\n", "").strip().splitlines()
]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_config_has_openpis_values(row):
    config = get_config(row[0])
    assert [
        config.name,
        config.kind,
        str(config.action_dim),
        str(config.action_horizon),
        str(config.max_token_len),
        config.asset_id,
        str(sum(config.delta_mask)),
        config.default_prompt or "-",
    ] == row
    if config.delta_mask:
        assert not config.delta_mask[-1], "grippers are absolute"


def test_only_ours_are_added_to_openpis_configs():
    assert CONFIGS.keys() - {row[0] for row in ROWS} == {"pi0_ur5", "pi05_ur5", "pi05_sim_arm"}
    assert all(get_config(name).name == name for name in config_names())


def test_the_state_is_in_the_prompt_where_openpi_writes_it():
    in_prompt = {name for name, config in CONFIGS.items() if config.state_in_prompt}
    assert in_prompt == {n for n, c in CONFIGS.items() if c.kind != "pi0"} - {"pi05_libero"}
    by_mean = {name for name, config in CONFIGS.items() if config.scaling == "mean_std"}
    assert by_mean == {name for name, config in CONFIGS.items() if config.kind == "pi0"}


def test_the_cameras_of_fast_models_are_openpis():
    droid, libero = get_config("pi0_fast_droid"), get_config("pi0_fast_libero")
    assert droid.cameras == ("base_0_rgb", "base_1_rgb", "left_wrist_0_rgb")
    assert libero.cameras == ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
    assert droid.blank_cameras_seen
    assert libero.blank_cameras_seen
    assert not get_config("pi05_droid").blank_cameras_seen


def test_reset_poses_go_to_the_clients_that_openpi_sends_them_to():
    sent = {name for name, config in CONFIGS.items() if config.metadata}
    assert sent == {"pi0_aloha", "pi05_aloha", "pi0_aloha_towel", "pi0_aloha_tupperware"}
    assert get_config("pi0_aloha").metadata == {"reset_pose": [0, -1.5, 1.5, 0, 0, 0]}


def test_released_weights_are_where_openpi_keeps_them():
    root = "gs://openpi-assets/checkpoints/"
    assert get_config("pi05_aloha").checkpoint == root + "pi05_base"
    assert get_config("pi0_aloha_sim").checkpoint == root + "pi0_aloha_sim"
    assert get_config("paligemma_fast_droid").checkpoint == root + "roboarena/paligemma_fast_droid"
    assert get_config("pi05_full_droid_finetune").checkpoint is None


def test_an_unknown_config_answers_with_the_closest_names():
    with pytest.raises(
        InferenceConfigError, match=r"no config named 'pi05_libreo', closest: pi05_libero"
    ):
        get_config("pi05_libreo")
    with pytest.raises(
        InferenceConfigError, match=r"no config named 'zzz', known: paligemma_binning"
    ):
        get_config("zzz")


@pytest.mark.parametrize("name", ["debug", "debug_pi05", "paligemma_vq_droid"])
def test_a_config_that_cannot_be_served_says_why(name):
    with pytest.raises(InferenceConfigError, match=f"config {name} cannot be served: it"):
        get_config(name)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"action_horizon": 0}, "action_horizon is 0, expected at least 1"),
        (
            {"trained_with_prefix": True, "kind": "pi0_fast"},
            "trained_with_prefix is for pi0 and pi05, got pi0_fast",
        ),
        ({"action_dim": 6}, "action_dim is 6, the robot sim_arm has 7 actions"),
        ({"delta_mask": (True,) * 8}, "delta covers 8 dimensions, the robot sim_arm has 7"),
        ({"cameras": ("base_0_rgb",)}, "the model has no camera left_wrist_0_rgb, which the robot"),
    ],
)
def test_a_config_that_does_not_fit_its_robot_is_refused(values, problem):
    values = {"action_horizon": 10} | values
    with pytest.raises(InferenceConfigError, match=f"config mine: {problem}"):
        InferenceConfig("mine", get_robot("sim_arm"), "mine", **values)


def test_a_name_is_given_once():
    taken = InferenceConfig("pi05_droid", get_robot("droid"), "mine", 10)
    with pytest.raises(InferenceConfigError, match="a config named 'pi05_droid' already"):
        register(taken)
    assert get_config("pi05_droid").asset_id == "droid"
