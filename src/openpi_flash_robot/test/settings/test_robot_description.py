"""robot_description.py: the limits of joints in a URDF."""

import pytest

from openpi_flash_robot.settings.bounds import Bounds
from openpi_flash_robot.settings.robot_description import DescriptionError, parse_description

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
