"""robot_description.py: a URDF's limits bound those of the parameters."""

import math

import pytest

from openpi_flash_robot.settings.parse_settings import settings_from_parameters
from openpi_flash_robot.settings.readiness import why_not_move
from openpi_flash_robot.settings.robot_description import (
    Bounds,
    DescriptionError,
    bounded,
    parse_description,
)

URDF = """<?xml version="1.0"?>
<robot name="arm">
  <link name="base"/>
  <joint name="shoulder" type="revolute">
    <limit lower="-1.5" upper="1.0" velocity="0.7" effort="10"/>
  </joint>
  <joint name="elbow" type="continuous"><limit velocity="3" effort="1"/></joint>
  <joint name="gripper" type="prismatic"><limit upper="0.8" velocity="0" effort="1"/></joint>
  <joint name="tool" type="fixed"/>
</robot>"""


def test_each_joint_has_the_limits_of_its_type():
    assert parse_description(URDF) == {
        "shoulder": Bounds(-1.5, 1.0, 0.7),
        "elbow": Bounds(velocity=3.0),
        "gripper": Bounds(0.0, 0.8),  # a velocity of 0 is none
        "tool": Bounds(),
    }


def test_the_narrower_limit_counts(parameters):
    player = bounded(settings_from_parameters(parameters), parse_description(URDF)).player
    assert player.position_lower == (-1.5, -2.0, 0.0)
    assert player.position_upper == (1.0, 2.0, 0.8)
    assert player.max_velocity == (0.7, 1.0, 2.0)


def test_where_the_parameters_have_no_limits_the_description_does(parameters):
    del parameters["position_lower"], parameters["position_upper"]
    settings = settings_from_parameters(parameters)
    assert why_not_move(settings) is not None
    described = bounded(settings, parse_description(URDF))
    assert described.player.position_upper == (1.0, math.inf, 0.8)
    assert "position_lower is not set for elbow, and" in why_not_move(described)


def test_a_joint_that_is_not_described_keeps_its_limits(settings):
    assert bounded(settings, {}) == settings
    assert bounded(settings, {"shoulder": Bounds(0.0, 0.0)}) == settings


def test_limits_that_lie_outside_the_description_are_of_another_robot(settings):
    assert bounded(settings, {"shoulder": Bounds(5.0, 6.0)}) == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not XML"),
        ("<sdf/>", "begins with <sdf>, expected <robot>"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><robot/>", "defines entities"),
        (URDF.replace("-1.5", "low"), "has lower 'low' for joint shoulder, expected a number"),
        (URDF.replace("-1.5", "nan"), "has lower 'nan' for joint shoulder, expected a number"),
    ],
)
def test_what_is_no_description_is_refused(text, message):
    with pytest.raises(DescriptionError, match=message):
        parse_description(text)
