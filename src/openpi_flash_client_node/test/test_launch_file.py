"""The launch file against a stand-in of the launch API, and against the real one if it is there."""

import importlib.util
import sys
import types
from pathlib import Path

import pytest

from openpi_flash_client_node.launch_plan import ARGUMENTS

REPOSITORY = Path(__file__).resolve().parents[3]
FILE = REPOSITORY / "launch" / "robot.launch.py"


def load():
    spec = importlib.util.spec_from_file_location("robot_launch", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Recorded:
    """An action or a description that remembers how it was made."""

    def __init__(self, *arguments, **named):
        self.arguments = arguments
        self.named = named


class LaunchConfiguration(Recorded):
    def perform(self, context):
        return context[self.arguments[0]]


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """The part of launch and launch_ros that the file uses, and an installed openpi_flash."""

    def action(name):
        return type(name, (Recorded,), {})

    modules = {
        "launch": {"LaunchContext": dict, "LaunchDescription": action("LaunchDescription")},
        "launch.actions": {
            name: action(name)
            for name in ("DeclareLaunchArgument", "OpaqueFunction", "SetEnvironmentVariable")
        },
        "launch.substitutions": {"LaunchConfiguration": LaunchConfiguration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": action("Node")},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    share = tmp_path / "share" / "openpi_flash"
    share.mkdir(parents=True)
    (share / "config").symlink_to(REPOSITORY / "config")
    index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "openpi_flash").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    return load()


def actions_of(description, kind):
    (actions,) = description.arguments
    return [action for action in actions if type(action).__name__ == kind]


def start(module, **given):
    """The node that `ros2 launch` would start."""
    description = module.generate_launch_description()
    context = {argument.name: argument.default for argument in ARGUMENTS} | given
    (opaque,) = actions_of(description, "OpaqueFunction")
    (node,) = opaque.named["function"](context)
    return node.named


def test_every_argument_is_declared_once_with_description_and_default(stand_in):
    declared = actions_of(stand_in.generate_launch_description(), "DeclareLaunchArgument")
    assert [action.arguments[0] for action in declared] == [a.name for a in ARGUMENTS]
    for action, argument in zip(declared, ARGUMENTS, strict=True):
        assert action.named["default_value"] == argument.default
        assert action.named["description"] == argument.description
        assert action.named["choices"] == (list(argument.choices) or None)


def test_with_a_server_alone_it_starts_the_simulated_arm_in_openpi(stand_in):
    node = start(stand_in, server="10.0.0.5")
    assert (node["package"], node["executable"]) == ("openpi_flash_client_node", "client_node")
    assert node["namespace"] == "openpi"
    file, overrides = node["parameters"]
    assert Path(file).parts[-2:] == ("robots", "sim_arm.yaml")
    assert Path(file).is_file()
    assert overrides == {"server": "10.0.0.5"}
    assert node["arguments"] == ["--ros-args", "--log-level", "info"]


def test_arguments_reach_the_node(stand_in):
    node = start(stand_in, dry_run="false", log_level="debug", namespace="left", port="7")
    assert node["parameters"][1] == {"dry_run": False, "port": 7}
    assert node["arguments"][-1] == "debug"
    assert (node["namespace"], node["name"], node["respawn"]) == ("left", "client_node", False)


def test_the_node_may_have_another_name_and_be_started_again(stand_in):
    node = start(stand_in, node_name="left_arm", respawn="true", use_sim_time="true")
    assert (node["name"], node["respawn"], node["respawn_delay"]) == ("left_arm", True, 2.0)
    assert node["parameters"][1] == {"use_sim_time": True}


def test_an_unknown_robot_is_one_clear_error(stand_in):
    with pytest.raises(ValueError, match="no robot 'leg' in .*; there is .*sim_arm"):
        start(stand_in, robot="leg")


def test_the_executable_that_is_launched_is_the_one_that_is_installed():
    setup = (REPOSITORY / "src" / "openpi_flash_client_node" / "setup.py").read_text()
    assert '"client_node = openpi_flash_client_node.__main__:main"' in setup


def test_a_real_launch_reads_the_file():
    pytest.importorskip("launch_ros", reason="ROS's launch is in no wheel")
    launch = pytest.importorskip("launch")
    description = load().generate_launch_description()
    assert isinstance(description, launch.LaunchDescription)
    names = {argument.name for argument in description.get_launch_arguments()}
    assert names == {argument.name for argument in ARGUMENTS}
