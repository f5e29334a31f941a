"""server_contract.py: what the server says, and whether the robot fits."""

import dataclasses

import pytest

from openpi_flash_robot.settings.action_meaning import ActionMeaning
from openpi_flash_robot.settings.parse_settings import settings_from_parameters
from openpi_flash_robot.settings.server_contract import (
    ContractError,
    ImageTarget,
    ServerContract,
    agree,
    parse_contract,
)

METADATA = {
    "reset_pose": [0.0, 1.0],
    "protocol": "openpi-flash/1",
    "model": "pi05",
    "robot": "sim_arm",
    "checkpoint": {"name": "19999", "digest": "0123"},
    "image_specs": [
        {"path": ["observation/scene_image"], "target_shape": [224, 224, 3], "dtype": "uint8"},
        {"path": ["images", "cam_high"], "target_shape": [3, 120, 160], "dtype": "uint8"},
    ],
    "action_horizon": 50,
    "action_dim": 3,
    "action_rate_hz": 25.0,
    "action_names": ["shoulder", "elbow", "gripper"],
    "actions": [
        {"name": name, "interface": "position", "unit": "rad", "reference": "absolute"}
        for name in ("shoulder", "elbow", "gripper")
    ],
    "supports": ["deadline_ms", "subtask"],
}
TWO_CAMERAS = {
    ("observation/scene_image",): ImageTarget(224, 224, channels_first=False),
    ("observation/wrist_image",): ImageTarget(224, 224, channels_first=False),
}


def test_everything_the_server_says_is_read():
    assert parse_contract(METADATA) == ServerContract(
        images={
            ("observation/scene_image",): ImageTarget(224, 224, channels_first=False),
            ("images", "cam_high"): ImageTarget(120, 160, channels_first=True),
        },
        action_horizon=50,
        action_dim=3,
        action_rate_hz=25.0,
        action_names=("shoulder", "elbow", "gripper"),
        actions=tuple(
            ActionMeaning(name, "position", "rad", "absolute")
            for name in ("shoulder", "elbow", "gripper")
        ),
        robot="sim_arm",
        model="pi05",
        checkpoint="19999",
        supports=frozenset({"deadline_ms", "subtask"}),
    )


@pytest.mark.parametrize("metadata", [{}, {"reset_pose": [0.0]}])
def test_an_openpi_server_that_says_nothing_is_understood(metadata):
    assert parse_contract(metadata) == ServerContract()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action_rate_hz": 0}, "the server's action_rate_hz is 0, expected a positive number"),
        (
            {"action_rate_hz": float("nan")},
            "the server's action_rate_hz is nan, expected a positive number",
        ),
        (
            {"action_rate_hz": "25"},
            "the server's action_rate_hz is '25', expected a positive number",
        ),
        ({"action_horizon": 0}, "the server's action_horizon is 0, expected a positive number"),
        ({"action_dim": 2.5}, "the server's action_dim is 2.5, expected a positive number"),
        ({"action_names": [1]}, "the server's action_names is [1], expected a list of names"),
        ({"image_specs": 3}, "the server's image_specs is 3, expected a list"),
        (
            {"image_specs": [3]},
            "an entry of the server's image_specs is 3, expected a map",
        ),
        (
            {"image_specs": [{"path": []}]},
            "an entry of the server's image_specs has the path []",
        ),
        (
            {"image_specs": [{"path": ["a"], "target_shape": [224, 224]}]},
            "the server wants a in the shape [224, 224]",
        ),
        (
            {"image_specs": [{"path": ["a", "b"], "target_shape": [4, 4, 4]}]},
            "the server wants a.b in the shape [4, 4, 4], expected [H, W, 3] or [3, H, W]",
        ),
        (
            {"image_specs": [{"path": ["a"], "target_shape": [4, 4, 3], "dtype": "float32"}]},
            "the server wants a as float32; this node sends uint8",
        ),
    ],
)
def test_metadata_that_makes_no_sense_is_refused_and_named(change, message):
    with pytest.raises(ContractError) as error:
        parse_contract(METADATA | change)
    assert str(error.value) == message


def test_server_and_robot_settle_on_step_columns_and_images(settings):
    agreement = agree(parse_contract(METADATA), settings)
    assert agreement.step_ns == 40_000_000
    assert agreement.columns == (0, 1, 2)
    assert agreement.column_count == 3
    assert agreement.horizon == 50
    assert ("images", "cam_high") in agreement.images


def test_the_servers_columns_are_matched_by_name_not_by_order(settings):
    names = ["gripper", "shoulder", "elbow"]
    assert agree(parse_contract(METADATA | {"action_names": names}), settings).columns == (1, 2, 0)


def test_action_columns_translate_other_names(settings, replace):
    settings = replace(settings, action_columns=("j1", "j2", "g"))
    contract = parse_contract(METADATA | {"action_names": ["j1", "j2", "g"]})
    assert agree(contract, settings).columns == (0, 1, 2)


def test_a_server_for_another_robot_is_refused(settings):
    contract = parse_contract(METADATA | {"action_names": ["x", "y", "z"]})
    with pytest.raises(ContractError, match="actions are x, y, z; this robot's are shoulder"):
        agree(contract, settings)


def test_without_names_the_count_must_fit(settings):
    contract = parse_contract(METADATA | {"action_names": None, "action_dim": 7})
    with pytest.raises(ContractError, match="have 7 columns, this robot has 3 axes"):
        agree(contract, settings)
    assert agree(dataclasses.replace(contract, action_dim=3), settings).columns == (0, 1, 2)


def test_without_a_rate_from_anyone_nothing_is_played(settings, replace):
    with pytest.raises(ContractError, match="set the parameter action_rate_hz"):
        agree(ServerContract(), settings)
    assert agree(ServerContract(), replace(settings, action_rate_hz=50.0)).step_ns == 20_000_000


def test_what_does_not_fit_but_does_not_stop_is_a_warning(settings, replace):
    agreement = agree(parse_contract(METADATA), replace(settings, action_rate_hz=50.0))
    assert agreement.step_ns == 20_000_000
    assert agreement.warnings == (
        "the server reads an image at images.cam_high, but no camera.<name>.key is that",
        "camera wrist goes to observation/wrist_image, where the server reads no image",
        "the server's actions have 25 steps per second; "
        "the parameter action_rate_hz plays them at 50",
    )
    assert agree(ServerContract(images=TWO_CAMERAS, action_rate_hz=1), settings).warnings == ()


def test_a_server_that_does_not_read_jpeg_gets_arrays_and_a_warning(settings, replace):
    insists = replace(settings.observation, jpeg_quality=90, image_budget=None)
    ours = replace(settings, observation=insists)
    contract = ServerContract(action_rate_hz=25)
    warning = "the server does not read jpeg; images are sent raw"
    assert agree(contract, ours).warnings == (warning,)
    assert agree(replace(contract, supports=frozenset({"jpeg"})), ours).warnings == ()
    may = replace(ours, observation=replace(ours.observation, image_budget=0.02))
    assert agree(contract, may).warnings == ()
    assert agree(contract, settings).warnings == ()


def test_velocities_are_not_played_as_positions(settings):
    velocity = {"interface": "velocity", "unit": "rad/s", "reference": "absolute"}
    actions = [{"name": name} | velocity for name in settings.joints]
    with pytest.raises(ContractError, match=r"shoulder \(velocity.* \(and 2 more axes\)"):
        agree(parse_contract(METADATA | {"actions": actions}), settings)


def test_a_server_that_does_not_say_what_its_actions_mean_is_refused(settings):
    silent = {key: value for key, value in METADATA.items() if key != "actions"}
    with pytest.raises(ContractError, match="does not say what its actions mean"):
        agree(parse_contract(silent), dataclasses.replace(settings, action_kinds=("",) * 3))
    agree(parse_contract(silent), settings)


def test_actions_that_make_no_sense_are_refused():
    with pytest.raises(ContractError, match="the server's actions is 7, expected a list of maps"):
        parse_contract({"actions": 7})


@pytest.mark.parametrize("value", [7, None, {"name": 7}, "x"])
def test_a_checkpoint_that_is_no_name_is_left_out(value):
    assert parse_contract({"checkpoint": value}).checkpoint == ""


def test_a_long_text_of_the_server_is_cut():
    assert len(parse_contract({"model": "x" * 10_000}).model) == 200


@pytest.mark.parametrize(
    ("horizon", "rate", "max_age", "message"),
    [
        (
            2,
            20.0,
            0.0,
            "until its observation is 0.05 s old (half of a chunk, because max_chunk_age is 0)",
        ),
        (50, 20.0, 0.08, "until its observation is 0.08 s old (max_chunk_age)"),
        (1, 20.0, 5.0, "until its observation is 0.05 s old (the whole chunk)"),
    ],
)
def test_settings_by_which_no_step_is_ever_played_are_refused(
    parameters, horizon, rate, max_age, message
):
    settings = settings_from_parameters(parameters | {"max_chunk_age": max_age})
    changes = {"action_horizon": horizon, "action_rate_hz": rate}
    with pytest.raises(ContractError) as error:
        agree(parse_contract(METADATA | changes), settings)
    assert message in str(error.value)
    assert str(error.value).endswith("no step of 0.05 s is left to play")


def test_short_chunks_that_can_be_played_are_taken(settings):
    agree(parse_contract(METADATA | {"action_horizon": 10, "action_rate_hz": 15.0}), settings)
    agree(ServerContract(action_rate_hz=15.0), settings)


def test_grippers_are_known_by_the_servers_word_or_the_nodes(parameters):
    actions = [dict(action) for action in METADATA["actions"]]
    actions[2] |= {"interface": "gripper", "unit": "1"}
    by_server = agree(
        parse_contract(METADATA | {"actions": actions}), settings_from_parameters(parameters)
    )
    assert [axis.is_gripper for axis in by_server.axes] == [False, False, True]
    named = settings_from_parameters(parameters | {"gripper_joints": ["gripper"]})
    by_node = agree(ServerContract(action_rate_hz=25.0), named)
    assert [axis.is_gripper for axis in by_node.axes] == [False, False, True]


def test_as_many_actions_are_described_as_there_are(settings):
    with pytest.raises(ContractError, match="describes 2 actions, and has 3"):
        agree(parse_contract(METADATA | {"actions": METADATA["actions"][:2]}), settings)
