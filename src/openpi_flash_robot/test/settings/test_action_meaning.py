"""action_meaning.py: what a server says of its actions, read from its metadata."""

import math

import pytest

from openpi_flash_robot.settings.action_meaning import ActionMeaning, parse_meanings

JOINT = {"name": "j1", "interface": "position", "unit": "rad", "reference": "absolute"}
GRIPPER = {"name": "g", "interface": "gripper", "unit": "1", "reference": "absolute"}


def test_what_is_said_is_read_and_the_rest_is_not_known():
    joint, gripper = parse_meanings([JOINT, GRIPPER | {"closed": 1, "open": -1.0, "frame": None}])
    assert (joint.name, joint.interface, joint.unit, joint.frame) == ("j1", "position", "rad", "")
    assert math.isnan(joint.closed)
    assert (gripper.closed, gripper.open) == (1.0, -1.0)
    delta = {"name": "rx", "interface": "eef_delta", "unit": "1", "reference": "previous_step"}
    (rotation,) = parse_meanings([delta | {"frame": "base", "rotation": "rotvec"}])
    assert (rotation.frame, rotation.rotation) == ("base", "rotvec")
    assert str(rotation) == "rx (eef_delta, 1, previous_step)"


def test_a_server_may_say_nothing():
    assert parse_meanings(None) is None


@pytest.mark.parametrize("end", [math.nan, math.inf, True, "open", [1]])
def test_an_end_of_a_gripper_that_is_no_number_is_not_known(end):
    (gripper,) = parse_meanings([GRIPPER | {"open": end}])
    assert isinstance(gripper, ActionMeaning)
    assert math.isnan(gripper.open)


@pytest.mark.parametrize("value", ["position", [], ["j1"], [{"name": "j1"}], [JOINT | {"unit": 1}]])
def test_what_makes_no_sense_is_refused(value):
    with pytest.raises(ValueError, match="server's actions is"):
        parse_meanings(value)
