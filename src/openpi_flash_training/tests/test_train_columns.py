"""Which columns of a dataset are a robot's inputs and actions."""

import pytest

from openpi_flash_models.robots.aloha import ALOHA
from openpi_flash_models.robots.droid import DROID
from openpi_flash_models.robots.sim_arm import SIM_ARM
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.train.columns import StatePart, find_columns
from openpi_flash_training.train.problem import SettingsError


def features(*cameras, **numbers):
    found = {name: Feature("video", (48, 64, 3)) for name in cameras}
    return found | {
        name.replace("__", "."): Feature("float32", (n,)) for name, n in numbers.items()
    }


SIM = features(
    "observation.images.scene", "observation.images.wrist", observation__state=7, action=7
)


def test_columns_are_found_by_the_names_of_lerobot():
    found = find_columns(SIM_ARM, SIM, {})
    assert found.cameras == {
        ("observation/scene_image",): "observation.images.scene",
        ("observation/wrist_image",): "observation.images.wrist",
    }
    assert found.state == (StatePart(("observation/state",), "observation.state", 0, 7),)
    assert found.action == "action"


def test_the_user_may_map_them():
    columns = features("left", "side", joints=7, commands=7)
    found = find_columns(
        SIM_ARM,
        columns,
        {
            "observation/scene_image": "side",
            "observation/wrist_image": "left",
            "observation/state": "joints",
            "action": "commands",
        },
    )
    assert list(found.cameras.values()) == ["side", "left"]
    assert found.state[0].column == "joints"
    assert found.action == "commands"


def test_a_camera_that_the_robot_may_leave_out_may_be_missing():
    columns = features("observation.images.cam_high", observation__state=14, action=14)
    assert list(find_columns(ALOHA, columns, {}).cameras) == [("images", "cam_high")]


def test_one_column_may_hold_all_parts_of_the_state():
    cameras = ("observation.images.exterior_image_1_left", "observation.images.wrist_image_left")
    parts = find_columns(DROID, features(*cameras, observation__state=8, action=8), {}).state
    assert [(part.start, part.size) for part in parts] == [(0, 7), (7, 1)]
    own = features(*cameras, joint_position=7, gripper_position=1, action=8)
    assert [part.column for part in find_columns(DROID, own, {}).state] == [
        "joint_position",
        "gripper_position",
    ]


def without(name):
    return {key: value for key, value in SIM.items() if key != name}


@pytest.mark.parametrize(
    ("columns", "mapped", "message"),
    [
        (
            without("observation.images.wrist"),
            {},
            "the dataset has no column for observation/wrist_image; name it",
        ),
        (without("action"), {}, "the dataset has no column for action"),
        (without("observation.state"), {}, "the dataset has no column for observation/state"),
        (
            SIM,
            {"observation/wrist": "observation.images.wrist"},
            "'observation/wrist' is no key of the robot sim_arm's; "
            "did you mean observation/wrist_image?",
        ),
        (SIM, {"action": "actoin"}, "the dataset lacks; did you mean action?"),
        (
            SIM,
            {"observation/wrist_image": "observation.state"},
            "observation/wrist_image is observation.state, which is no camera",
        ),
        (
            SIM | {"action": Feature("float32", (8,))},
            {},
            "the column action has 8 numbers a frame, the robot sim_arm's actions have 7",
        ),
        (
            SIM | {"observation.state": Feature("float32", (14,))},
            {},
            "the column observation.state has 14 numbers a frame, observation/state has 7",
        ),
    ],
)
def test_what_does_not_fit_is_named(columns, mapped, message):
    with pytest.raises(SettingsError) as caught:
        find_columns(SIM_ARM, columns, mapped)
    assert message in str(caught.value)
