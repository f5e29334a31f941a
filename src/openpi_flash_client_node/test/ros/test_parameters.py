"""parameters.py: the table in ROS."""

import pytest
import yaml
from rcl_interfaces.msg import ParameterType
from rclpy.node import Node
from rclpy.parameter import Parameter

from openpi_flash_client_node.ros.parameters import RosParameters
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.parameter_table import PARAMETERS
from openpi_flash_robot.settings.parse_settings import settings_from_parameters


@pytest.fixture
def declared(ros, parameters):
    def declare(**changes):
        given = {k: v for k, v in (parameters | changes).items() if v is not None}
        node = Node(
            "parameters",
            context=ros.context,
            use_global_arguments=False,
            automatically_declare_parameters_from_overrides=True,
            parameter_overrides=[Parameter(name, value=value) for name, value in given.items()],
        )
        ros.add(node)
        return node, RosParameters(node, {})

    return declare


def test_what_is_set_and_what_is_not_become_settings(declared, settings):
    _, table = declared()
    assert table.settings() == settings


def test_every_parameter_is_declared_with_its_description_and_range(declared):
    entries = {
        "cameras": "scene",
        "states": "body",
        "gripper_joints": "gripper",
        "stop_states": "safety",
    }
    node, _ = declared(states=["body"], gripper_joints=["gripper"], stop_states=["safety"])
    for parameter in PARAMETERS:
        name = parameter.named(entries.get(parameter.each_of, "arm"))
        descriptor = node.describe_parameter(name)
        assert descriptor.description.startswith(parameter.text)
        assert descriptor.read_only == (not parameter.dynamic)
    timeout = node.describe_parameter("request_timeout")
    assert (timeout.floating_point_range[0].from_value, timeout.type) == (
        0.01,
        ParameterType.PARAMETER_DOUBLE,
    )
    transport = node.describe_parameter("transport")
    assert transport.additional_constraints == "auto, quic, websocket"


def test_a_whole_number_is_taken_for_a_double(declared):
    node, table = declared(request_timeout=2)
    assert table.settings().link.request_timeout == 2.0
    assert node.get_parameter("request_timeout").value == 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"port": "5555"}, "parameter port must be an integer, got '5555'"),
        ({"cameras": "scene"}, "parameter cameras must be a list of strings, got 'scene'"),
        ({"max_velocty": 1.0}, "unknown parameter max_velocty; the closest known one is"),
        ({"camera.scene.tpic": "/x"}, "unknown parameter camera.scene.tpic"),
        ({"joints": None}, "parameter joints is empty"),
    ],
)
def test_what_makes_no_sense_is_an_error_of_settings_not_of_the_node(declared, changes, message):
    _, table = declared(**changes)
    with pytest.raises(ParameterError) as error:
        table.settings()
    assert str(error.value).startswith(message)


def test_a_flag_is_read_and_has_its_default(declared):
    assert declared()[1].flag("autostart") is True


def test_a_flag_that_is_off_is_off(declared):
    assert declared(autostart=False)[1].flag("autostart") is False


def test_parameters_of_rclpy_itself_are_none_of_ours(declared):
    node, table = declared()
    assert node.has_parameter("use_sim_time")
    table.settings()


def test_a_change_is_checked_as_a_whole_and_handed_over(declared):
    node, table = declared()
    seen = []
    table.on_change(seen.append)
    (result,) = node.set_parameters([Parameter("max_camera_skew", value=0.5)])
    assert result.successful
    assert seen[0].observation.max_skew_ns == 500_000_000
    (result,) = node.set_parameters([Parameter("position_lower", value=[0.0, 0.0, 3.0])])
    assert result.reason == "position_lower of gripper (3) must be below its position_upper (1)"
    (result,) = node.set_parameters([Parameter("max_camera_skew", value=99.0)])
    assert not result.successful
    (result,) = node.set_parameters([Parameter("dry_run", value=True)])
    assert not result.successful
    assert len(seen) == 1
    assert table.settings().observation.max_skew_ns == 500_000_000


def test_a_list_without_a_default_can_be_set_later(declared):
    node, table = declared(position_lower=None)
    seen = []
    table.on_change(seen.append)
    (result,) = node.set_parameters([Parameter("position_lower", value=[-1.0, -1.0, -1.0])])
    assert result.successful
    assert seen[0].player.position_lower == (-1.0, -1.0, -1.0)


def test_one_number_may_be_set_for_all_joints_and_later_one_each(declared):
    node, table = declared(max_velocity=0.8)
    seen = []
    table.on_change(seen.append)
    assert table.settings().player.max_velocity == (0.8,) * 3
    for value, expected in ((0.5, (0.5,) * 3), ([0.1, 0.2, 0.3], (0.1, 0.2, 0.3))):
        (result,) = node.set_parameters([Parameter("max_velocity", value=value)])
        assert result.successful, result.reason
        assert seen[-1].player.max_velocity == expected


def test_every_parameter_has_a_value_that_a_file_can_give_back(ros, declared, parameters):
    """What `ros2 param dump` writes is a parameter file that means the same."""
    node, table = declared()
    dumped = {name: value.value for name, value in node.get_parameters_by_prefix("").items()}
    assert [name for name, value in dumped.items() if value is None] == []
    assert [name for name, value in dumped.items() if value in ([], ())] == []
    ours = {k: v for k, v in dumped.items() if k not in ("use_sim_time", "api_key")}
    ours.pop("start_type_description_service", None)
    ours = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in ours.items()}
    again = yaml.safe_load(yaml.safe_dump(ours))
    assert settings_from_parameters(again) == table.settings()
