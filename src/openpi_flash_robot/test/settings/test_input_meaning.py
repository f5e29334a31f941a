"""input_meaning.py: what the server reads, and whether the node sends it."""

import pytest

from openpi_flash_robot.settings.input_meaning import objections, parse_inputs
from openpi_flash_robot.settings.parse_settings import settings_from_parameters

ARM = {"path": ["arm"], "kind": "joints", "shape": [2], "names": ["j1", "j2"]}
HAND = {"path": ["hand"], "kind": "joints", "shape": [1], "names": ["grip"]}
POSE = {"path": ["eef"], "kind": "vector", "shape": [6], "rotation": "rotvec"}
IMAGES = [
    {"path": [f"observation/{name}_image"], "kind": "image", "shape": [224, 224, 3]}
    for name in ("scene", "wrist")
]
COLUMNS = {"shoulder": "j1", "elbow": "j2", "gripper": "grip"}


def refusals(parameters, *inputs, **states):
    given = {"states": list(states)}
    for name, values in states.items():
        given |= {f"state.{name}.{key}": value for key, value in values.items()}
    observation = settings_from_parameters(parameters | given).observation
    found, warnings = objections(parse_inputs([*IMAGES, *inputs]), observation, COLUMNS)
    assert not warnings
    return "; ".join(found)


def test_a_state_in_the_servers_order_is_accepted(parameters):
    arm = {"key": "arm", "joints": ["shoulder", "elbow"]}
    hand = {"key": "hand", "joints": ["gripper"]}
    assert refusals(parameters, ARM, HAND, arm=arm, hand=hand) == ""


@pytest.mark.parametrize(
    ("joints", "where"),
    [
        (["elbow", "shoulder"], "its number 1 is j1, and this node sends elbow there"),
        (["shoulder", "gripper"], "its number 2 is j2, and this node sends gripper there"),
    ],
)
def test_joints_in_another_order_or_of_another_part_are_refused_by_name(parameters, joints, where):
    arm = {"key": "arm", "joints": joints}
    hand = {"key": "hand", "joints": ["gripper"]}
    found = refusals(parameters, ARM, HAND, arm=arm, hand=hand)
    assert where in found
    assert "put the joints of the state in the server's order" in found


def test_names_that_only_the_state_has_are_the_servers_own(parameters):
    fingers = ARM | {"names": ["finger_1", "finger_2"]}
    assert refusals(parameters, fingers, arm={"key": "arm", "joints": ["gripper", "elbow"]}) == ""


@pytest.mark.parametrize("kind", ["vector", "pose"])
def test_a_pose_whose_rotation_is_written_in_another_way_is_refused(parameters, kind):
    eef = {"key": "eef", "kind": "pose", "topic": "/eef", "rotation": "rpy"}
    found = refusals(parameters, POSE | {"kind": kind}, eef=eef)
    assert "set state.eef.rotation to rotvec" in found
    assert refusals(parameters, POSE | {"kind": kind}, eef=eef | {"rotation": "rotvec"}) == ""
