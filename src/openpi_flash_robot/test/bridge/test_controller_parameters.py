"""controller_parameters.py: which parameters of a controller would make jerks."""

import dataclasses

import pytest

from openpi_flash_robot.bridge.controller_parameters import (
    PARAMETER_NAMES,
    ControllerParameters,
    Judgement,
    judge,
    parameters_from,
)
from openpi_flash_robot.settings.node_settings import Controller

ARM = Controller("arm", "/arm/joint_trajectory", ("shoulder", "elbow"), (0, 1))
GOOD = ControllerParameters(
    "/arm",
    joints=("elbow", "shoulder"),
    allow_partial_joints_goal=False,
    interpolate_from_desired_state=True,
    interpolation_method="splines",
    cmd_timeout=0.0,
    kind="joint_trajectory_controller/JointTrajectoryController",
)
SET = (
    "or where it is read-only, write it into the controller's parameter file and load the "
    "controller again"
)


@pytest.mark.parametrize(
    "read",
    [
        GOOD,
        # Humble
        dataclasses.replace(GOOD, interpolate_from_desired_state=None, open_loop_control=True),
        # Jazzy has both, and heeds either
        dataclasses.replace(GOOD, interpolate_from_desired_state=False, open_loop_control=True),
        dataclasses.replace(GOOD, open_loop_control=False),
        dataclasses.replace(
            GOOD, joints=("shoulder", "elbow", "wrist"), allow_partial_joints_goal=True
        ),
        dataclasses.replace(GOOD, kind="ur_controllers/ScaledJointTrajectoryController"),
        # no trajectory controller of ros2_control
        ControllerParameters("/arm"),
    ],
)
def test_a_controller_that_moves_smoothly_is_accepted(read):
    assert judge(ARM, read) == Judgement()


@pytest.mark.parametrize(
    ("changes", "objection"),
    [
        (
            {"interpolate_from_desired_state": False},
            "controller arm (/arm) has interpolate_from_desired_state false: each command would "
            "begin at the measured position instead of the commanded one, with a jerk; "
            f"`ros2 param set /arm interpolate_from_desired_state true`, {SET}",
        ),
        (
            {"interpolate_from_desired_state": None, "open_loop_control": False},
            "controller arm (/arm) has open_loop_control false: each command would begin at the "
            "measured position instead of the commanded one, with a jerk; "
            f"`ros2 param set /arm open_loop_control true`, {SET}",
        ),
        (
            {"interpolation_method": "none"},
            "controller arm (/arm) has interpolation_method none: the arm would be sent from point "
            f"to point in steps; `ros2 param set /arm interpolation_method splines`, {SET}",
        ),
        (
            {"joints": ("shoulder", "wrist")},
            "controller arm (/arm) has joints shoulder, wrist, and not elbow: it would refuse "
            "every command; set controller.arm.joints to its joints",
        ),
        (
            {"joints": ("shoulder", "elbow", "wrist")},
            "controller arm (/arm) has allow_partial_joints_goal false and joints wrist too: it "
            "would refuse every command; add them to controller.arm.joints, or `ros2 param set "
            f"/arm allow_partial_joints_goal true`, {SET}",
        ),
    ],
)
def test_what_makes_jerks_or_is_refused_is_named_with_the_command_that_repairs_it(
    changes, objection
):
    assert judge(ARM, dataclasses.replace(GOOD, **changes)) == Judgement((objection,))


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"cmd_timeout": 0.5}, "has cmd_timeout 0.5 s: so long after the last command it holds"),
        (
            {"kind": "forward_command_controller/ForwardCommandController"},
            "is a forward_command_controller/ForwardCommandController, and this node sends joint",
        ),
    ],
)
def test_what_may_surprise_is_a_warning(changes, warning):
    judgement = judge(ARM, dataclasses.replace(GOOD, **changes))
    assert judgement.objections == ()
    (found,) = judgement.warnings
    assert found.startswith(f"controller arm (/arm) {warning}")


def test_several_faults_are_all_named():
    read = dataclasses.replace(
        GOOD, interpolate_from_desired_state=False, joints=("shoulder",), cmd_timeout=1.0
    )
    judgement = judge(ARM, read)
    assert (len(judgement.objections), len(judgement.warnings)) == (2, 1)


def test_values_are_read_by_name_and_those_of_other_types_are_none():
    values = {
        "joints": ["elbow", "shoulder"],
        "allow_partial_joints_goal": False,
        "interpolate_from_desired_state": True,
        "interpolation_method": "splines",
        "cmd_timeout": 0.0,
    }
    assert parameters_from("/arm", values, GOOD.kind) == GOOD
    assert parameters_from("/arm", {}, None) == ControllerParameters("/arm")
    wrong = {
        "joints": "elbow",
        "allow_partial_joints_goal": 1,
        "interpolate_from_desired_state": "true",
        "open_loop_control": 0.0,
        "interpolation_method": ["none"],
        "cmd_timeout": True,
    }
    assert set(wrong) == set(PARAMETER_NAMES)
    assert parameters_from("/arm", wrong, 7) == ControllerParameters("/arm")
    assert parameters_from("/arm", {"joints": [], "cmd_timeout": 1}, "") == ControllerParameters(
        "/arm", cmd_timeout=1.0
    )
