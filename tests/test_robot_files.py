"""config/robots: each file fits the contract of its robot's policy, and no other robot's."""

import re

import pytest
import yaml
from robot_files import (
    FOLDER,
    NAMES,
    ROOT,
    SERVED,
    TEMPLATE,
    flat,
    metadata_of,
    parameters_of,
    robot_metadata,
    settings_of,
)

from openpi_flash_models.config.robot_file import read_robot_file
from openpi_flash_robot.settings.action_meaning import KINDS
from openpi_flash_robot.settings.axis_play import Reading
from openpi_flash_robot.settings.controllers import ControllerKind
from openpi_flash_robot.settings.parse_settings import settings_from_parameters
from openpi_flash_robot.settings.readiness import why_not_move
from openpi_flash_robot.settings.server_contract import ContractError, agree, parse_contract
from openpi_flash_robot.settings.state_inputs import StateKind

EVERY_ROBOT = pytest.mark.parametrize("name", SERVED)
READINGS = {
    "position": Reading.ABSOLUTE,
    "gripper": Reading.ABSOLUTE,
    "velocity": Reading.PER_SECOND,
    "eef_delta": Reading.PER_STEP,
    "base_twist": Reading.PER_SECOND,
}
SAME = {"ur5", "ur5e"}


def contract_of(name):
    return parse_contract(metadata_of(name))


def test_every_robot_that_is_served_has_a_file_and_there_are_no_others_but_the_template():
    assert [name for name in NAMES if name != TEMPLATE] == SERVED


@pytest.mark.parametrize("name", NAMES)
def test_a_file_moves_nothing_until_it_is_told_to_and_names_its_robot_and_its_limits(name):
    assert parameters_of(name)["dry_run"] is True
    text = (FOLDER / f"{name}.yaml").read_text()
    assert text.startswith("#")
    assert name == TEMPLATE or f"robot:={name} " in text
    bounded = () if name == "mobile_base" else ("position_lower", "position_upper")
    for limit in (*bounded, "max_velocity", "max_acceleration"):
        assert limit in parameters_of(name)


@EVERY_ROBOT
def test_server_and_file_agree_without_a_warning(name):
    settings = settings_of(name)
    agreement = agree(contract_of(name), settings)
    assert agreement.warnings == ()
    assert agreement.column_count == len(settings.axes)


@EVERY_ROBOT
def test_every_axis_is_played_as_the_server_means_it(name):
    settings, contract = settings_of(name), contract_of(name)
    agreement = agree(contract, settings)
    for axis, column, play in zip(settings.axes, agreement.columns, agreement.axes, strict=True):
        meant = contract.actions[column]
        assert play.meaning == meant
        assert play.reading is READINGS[meant.interface], axis
        assert play.is_gripper == (meant.interface == "gripper"), axis
        if play.is_gripper:
            low, high = (
                settings.player.position_lower[settings.axes.index(axis)],
                settings.player.position_upper[settings.axes.index(axis)],
            )
            ends = [number * play.scale + play.offset for number in (meant.closed, meant.open)]
            slack = 0.1 * abs(ends[1] - ends[0])
            assert low <= min(ends) + slack, axis
            assert high >= max(ends) - slack, axis


UNITS = {"rad": 1.0, "m": 1.0, "m/s": 1.0, "rad/s": 1.0}
SHARES = {
    "droid": {"velocity": 3.0},
    "libero": {"x": 0.05, "y": 0.05, "z": 0.05, "rx": 0.5, "ry": 0.5, "rz": 0.5},
}


@EVERY_ROBOT
def test_what_1_of_the_policy_is_follows_from_its_unit(name):
    settings, contract = settings_of(name), contract_of(name)
    agreement = agree(contract, settings)
    for column, play in zip(agreement.columns, agreement.axes, strict=True):
        meant = contract.actions[column]
        if meant.interface != "gripper":
            shares = SHARES.get(name, {})
            share = shares.get(meant.name, shares.get(meant.interface))
            assert play.scale == UNITS.get(meant.unit, share), meant


@EVERY_ROBOT
def test_nothing_is_missing_before_the_robot_may_move(name):
    settings = settings_of(name, dry_run=False)
    assert why_not_move(settings) is None
    assert settings.controllers
    agree(contract_of(name), settings)


@EVERY_ROBOT
def test_what_holds_something_is_not_watched_and_everything_else_that_is_measured_is(name):
    settings = settings_of(name, dry_run=False)
    grippers = {"gripper"} | {hand.joint for hand in settings.grippers}
    for axis, measured, error in zip(
        settings.axes,
        settings.measured_axes,
        settings.player.max_tracking_error,
        strict=True,
    ):
        watched = measured and axis not in grippers and axis not in settings.unmoved_joints
        assert (error > 0.0) == watched, axis


@pytest.mark.parametrize("name", ["r1_lite"])
def test_the_linked_torso_is_commanded_by_nobody(name):
    settings = settings_of(name, dry_run=False)
    torso = {axis for axis in settings.axes if axis.startswith("torso")}
    assert torso == set(settings.unmoved_joints)
    assert not torso & {axis for c in settings.controllers for axis in c.joints}


def test_a_base_is_commanded_by_the_kind_that_ends_with_zeros():
    for name in SERVED:
        settings = settings_of(name)
        for axis, kind in zip(settings.axes, settings.action_kinds, strict=True):
            if kind == "base_twist":
                assert settings.controller_of(axis).kind is ControllerKind.BASE


def test_the_two_names_of_one_robot_have_the_same_parameters():
    first, second = (parameters_of(name) for name in sorted(SAME))
    assert first == second


@EVERY_ROBOT
def test_another_robots_policy_is_refused_and_both_sides_are_named(name):
    settings = settings_of(name)
    for other in SERVED:
        if other == name or {name, other} == SAME:
            continue
        contract = contract_of(other)
        with pytest.raises(ContractError) as error:
            agree(contract, settings)
        text = str(error.value)
        names = {action.name for action in contract.actions}
        ours = {*settings.action_columns, *settings.axes, "action_kind", "camera.<name>.key"}
        assert any(theirs in text for theirs in names), (other, text)
        assert any(own in text for own in ours), (other, text)


PAGE = ROOT / "docs" / "add-a-robot.md"


def examples(kind):
    return re.findall(rf"```yaml {kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("index", range(3), ids=["arm", "end effector", "base"])
def test_the_two_files_of_each_example_of_the_page_agree_and_may_move(index, tmp_path):
    file = tmp_path / "robot.yaml"
    file.write_text(examples("policy")[index])
    (robot,) = read_robot_file(file).robots
    given = flat(yaml.safe_load(examples("node")[index])["/**"]["ros__parameters"])
    settings = settings_from_parameters(given | {"dry_run": False})
    agreement = agree(parse_contract(robot_metadata(robot)), settings)
    assert agreement.warnings == ()
    assert why_not_move(settings) is None


def test_the_page_names_every_file_and_every_kind():
    text = PAGE.read_text()
    kinds = (*(kind.value for kind in ControllerKind), *(kind.value for kind in StateKind))
    for word in (*NAMES, *kinds, *KINDS):
        assert f"`{word}`" in text, word
    assert len(examples("policy")) == len(examples("node")) == 3
