"""action_meaning.py: nothing but absolute positions is played."""

import pytest

from openpi_flash_robot.settings.action_meaning import (
    ActionMeaning,
    objection,
    parse_meanings,
)

JOINT = {"name": "j1", "interface": "position", "unit": "rad", "reference": "absolute"}
GRIPPER = {"name": "g", "interface": "gripper", "unit": "1", "reference": "absolute"}


def test_joints_and_grippers_are_played_whatever_else_the_server_says_of_them():
    meanings = parse_meanings([JOINT, GRIPPER | {"frame": ""}])
    assert meanings == (
        ActionMeaning("j1", "position", "rad", "absolute"),
        ActionMeaning("g", "gripper", "1", "absolute"),
    )
    assert objection(meanings, "") is None
    assert objection(meanings, "position") is None


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"interface": "velocity", "unit": "rad/s"}, "j1 (velocity, rad/s, absolute)"),
        ({"interface": "eef_delta", "unit": "1"}, "j1 (eef_delta, 1, absolute)"),
        ({"reference": "previous_step"}, "j1 (position, rad, previous_step)"),
        ({"unit": "deg"}, "j1 (position, deg, absolute)"),
    ],
)
@pytest.mark.parametrize("action_kind", ["", "position"])
def test_anything_else_is_refused_and_named_whatever_the_parameter_says(change, shown, action_kind):
    problem = objection(parse_meanings([JOINT | change, GRIPPER]), action_kind)
    assert problem.startswith(f"the server's action {shown} cannot be played: this node commands")


def test_several_are_counted():
    wrong = JOINT | {"interface": "velocity", "unit": "rad/s"}
    assert "j1 (velocity, rad/s, absolute) and 6 more cannot" in objection(
        parse_meanings([wrong] * 7), ""
    )


def test_a_server_that_does_not_say_needs_the_nodes_own_word():
    assert parse_meanings(None) is None
    assert "set the parameter action_kind to position" in objection(None, "")
    assert objection(None, "position") is None


@pytest.mark.parametrize("value", ["position", [], ["j1"], [{"name": "j1"}], [JOINT | {"unit": 1}]])
def test_what_makes_no_sense_is_refused(value):
    with pytest.raises(ValueError, match="server's actions is"):
        parse_meanings(value)
