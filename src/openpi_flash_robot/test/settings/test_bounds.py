"""bounds.py: the tightest limit of all sources counts, and each limit names its source."""

import math

import pytest

from openpi_flash_robot.settings.bounds import (
    Bounds,
    BoundSource,
    bounded,
    checked,
    limits_of,
    told_limits,
)
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.parse_settings import settings_from_parameters
from openpi_flash_robot.settings.readiness import why_not_move

DESCRIPTION = BoundSource(
    "/robot_description",
    {
        "shoulder": Bounds(-1.5, 1.0, 0.7),
        "elbow": Bounds(velocity=3.0),
        "gripper": Bounds(0.0, 0.8),
    },
)
FILE = BoundSource(
    "limits.yaml",
    {
        "shoulder": Bounds(-1.0, 2.0, 0.9, acceleration=3.0),
        "elbow": Bounds(velocity=0.4, acceleration=8.0, jerk=60.0),
    },
)


def test_the_tightest_limit_of_all_sources_counts(parameters):
    settings = settings_from_parameters(parameters | {"max_jerk": [100.0, 100.0, 0.0]})
    player = bounded(settings, [FILE, DESCRIPTION]).player
    assert player.position_lower == (-1.0, -2.0, 0.0)
    assert player.position_upper == (1.0, 2.0, 0.8)
    assert player.max_velocity == (0.7, 0.4, 2.0)
    assert player.max_acceleration == (3.0, 5.0, 5.0)
    assert player.max_jerk == (100.0, 60.0, math.inf)
    assert bounded(settings, [DESCRIPTION, FILE]).player == player


def test_each_limit_names_its_source(settings):
    sources = {
        limit.parameter: limit.source for limit in limits_of(settings, [FILE, DESCRIPTION])["elbow"]
    }
    assert sources == {
        "position_lower": "position_lower",
        "position_upper": "position_upper",
        "max_velocity": "limits.yaml",
        "max_acceleration": "max_acceleration",
        "max_jerk": "limits.yaml",
    }


def test_what_a_source_narrows_is_told_in_a_line_for_each_axis(settings):
    assert told_limits(settings, [FILE, DESCRIPTION]) == [
        "limits of shoulder: position_lower -1 (limits.yaml), "
        "position_upper 1 (/robot_description), max_velocity 0.7 (/robot_description), "
        "max_acceleration 3 (limits.yaml)",
        "limits of elbow: max_velocity 0.4 (limits.yaml), max_jerk 60 (limits.yaml)",
        "limits of gripper: position_upper 0.8 (/robot_description)",
    ]
    assert told_limits(settings, []) == []


def test_where_the_parameters_have_no_positions_another_source_does(parameters):
    del parameters["position_lower"], parameters["position_upper"]
    settings = settings_from_parameters(parameters)
    assert why_not_move(settings) is not None
    described = bounded(settings, [DESCRIPTION])
    assert described.player.position_upper == (1.0, math.inf, 0.8)
    assert "position_lower is not set for elbow, and" in why_not_move(described)
    both = bounded(settings, [BoundSource("f", {"elbow": Bounds(-1.0, 1.0)}), DESCRIPTION])
    assert why_not_move(both) is None


def test_a_joint_that_no_source_knows_or_gives_room_keeps_its_limits(settings):
    assert bounded(settings, []) == settings
    assert bounded(settings, [BoundSource("d", {"shoulder": Bounds(0.0, 0.0)})]) == settings


def test_limits_that_leave_a_joint_no_position_keep_the_robot_from_moving(settings):
    other = BoundSource("/robot_description", {"shoulder": Bounds(5.0, 6.0, 0.1)})
    found = bounded(settings, [other])
    assert found.player == settings.player
    assert why_not_move(found) == (
        "joint shoulder has no position left: position_lower 5 (/robot_description) is not below "
        "position_upper 2 (position_upper); one of them is of another robot, or in another unit"
    )
    with pytest.raises(ParameterError, match="joint shoulder has no position left"):
        checked(settings, [other])
    assert why_not_move(bounded(found, [DESCRIPTION])) is None


def test_a_jerk_that_is_too_low_for_the_acceleration_is_refused_with_its_source(settings):
    soft = BoundSource("limits.yaml", {"elbow": Bounds(jerk=20.0)})
    with pytest.raises(ParameterError, match=r"max_jerk of elbow, by limits.yaml \(20\) is too"):
        bounded(settings, [soft])
