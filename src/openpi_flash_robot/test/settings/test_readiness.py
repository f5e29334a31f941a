"""readiness.py: what must be set before a robot moves."""

import pytest

from openpi_flash_robot.settings.parse_settings import settings_from_parameters
from openpi_flash_robot.settings.readiness import why_not_move


def problem(parameters, **changes):
    given = parameters | {name.replace("__", "."): value for name, value in changes.items()}
    return why_not_move(settings_from_parameters({k: v for k, v in given.items() if v is not None}))


def test_a_robot_with_limits_and_controllers_may_move(parameters):
    assert problem(parameters) is None


@pytest.mark.parametrize("name", ["position_lower", "position_upper"])
def test_without_position_limits_no_robot_moves(parameters, name):
    message = problem(parameters, **{name: None})
    assert message.startswith(
        f"parameter {name} is not set for shoulder, elbow, gripper, and dry_run is false"
    )
    assert problem(parameters, dry_run=True, **{name: None}) is None


def test_a_joint_that_no_controller_moves_is_named_unless_that_is_meant(parameters):
    changes = {"controllers": ["arm"], "controller__hand__joints": None}
    assert problem(parameters, **changes).startswith("no controller moves gripper")
    assert problem(parameters, dry_run=True, **changes) is None
    assert problem(parameters, unmoved_joints=["gripper"], **changes) is None


def test_a_joint_that_is_left_out_on_purpose_needs_no_limits(parameters):
    changes = {"controllers": ["arm"], "controller__hand__joints": None}
    limits = {
        "position_lower": [-2.0, -2.0, float("-inf")],
        "position_upper": [2.0, 2.0, float("inf")],
    }
    assert problem(parameters, unmoved_joints=["gripper"], **changes, **limits) is None
    assert problem(parameters, **limits).startswith("parameter position_lower is not set for grip")
