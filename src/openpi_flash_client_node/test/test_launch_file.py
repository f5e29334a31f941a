"""The launch files against a stand-in of the launch API, and against the real one where it is."""

import importlib.util
import os
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

from openpi_flash_client_node.launch_plan import (
    ARGUMENTS,
    DEMO_ARGUMENTS,
    LaunchArgumentError,
    ProcessEndedError,
)

REPOSITORY = Path(__file__).resolve().parents[3]


def load(name="robot"):
    path = REPOSITORY / "launch" / f"{name}.launch.py"
    spec = importlib.util.spec_from_file_location(f"{name}_launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Recorded:
    """An action or a description that remembers how it was made."""

    def __init__(self, *arguments, **named):
        self.arguments = arguments
        self.named = named


class Context(dict):
    """The values of the arguments, and whether the launch is ending anyway."""

    is_shutdown = False


class Ending(Context):
    is_shutdown = True


@dataclass
class ProcessExited:
    returncode: int


class LaunchConfiguration(Recorded):
    def perform(self, context):
        return context[self.arguments[0]]


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """The part of launch and launch_ros that the file uses, and an installed openpi_flash."""

    def action(name):
        return type(name, (Recorded,), {})

    modules = {
        "launch": {
            "LaunchContext": Context,
            "LaunchDescription": action("LaunchDescription"),
            "LaunchDescriptionEntity": Recorded,
        },
        "launch.actions": {
            name: action(name)
            for name in (
                "DeclareLaunchArgument",
                "ExecuteProcess",
                "IncludeLaunchDescription",
                "OpaqueFunction",
                "SetEnvironmentVariable",
            )
        },
        "launch.events": {},
        "launch.events.process": {"ProcessExited": ProcessExited},
        "launch.launch_description_sources": {
            "PythonLaunchDescriptionSource": action("PythonLaunchDescriptionSource")
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
    for folder in ("config", "launch", "examples"):
        (share / folder).symlink_to(REPOSITORY / folder)
    index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "openpi_flash").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    return load()


def actions_of(description, kind):
    (actions,) = description.arguments
    return [action for action in actions if type(action).__name__ == kind]


def started(module, declared, given):
    """What `ros2 launch` would start."""
    description = module.generate_launch_description()
    context = {argument.name: argument.default for argument in declared} | given
    (opaque,) = actions_of(description, "OpaqueFunction")
    return opaque.named["function"](context)


def start(module, **given):
    """The node that `ros2 launch` would start."""
    (node,) = started(module, ARGUMENTS, given)
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


def test_a_node_that_cannot_start_ends_the_launch_with_an_error_unless_it_is_started_again(
    stand_in,
):
    on_exit = start(stand_in)["on_exit"]
    on_exit(ProcessExited(0), Context())
    with pytest.raises(ProcessEndedError, match="client_node has ended with 2: its last lines"):
        on_exit(ProcessExited(2), Context())
    on_exit(ProcessExited(-2), Ending())
    assert start(stand_in, respawn="true")["on_exit"] is None


# --- the demo ---


@pytest.fixture
def demo(stand_in):
    return load("demo")


def test_the_demo_declares_every_argument_once(demo):
    declared = actions_of(demo.generate_launch_description(), "DeclareLaunchArgument")
    assert [action.arguments[0] for action in declared] == [a.name for a in DEMO_ARGUMENTS]


def test_the_demo_starts_the_simulated_robot_and_the_node_that_moves_it(demo):
    robot, node = started(demo, DEMO_ARGUMENTS, {"server": "10.0.0.5", "seed": "3"})
    command = [sys.executable, "-m", "sim_robot", "--camera-hz", "10", "--seed", "3"]
    assert robot.named["cmd"] == command
    folder = robot.named["additional_env"]["PYTHONPATH"].split(os.pathsep)[0]
    assert (Path(folder) / "sim_robot" / "__main__.py").is_file()
    (source,) = node.arguments
    assert Path(source.arguments[0]).is_file()
    given = dict(node.named["launch_arguments"])
    assert (given["robot"], given["server"], given["dry_run"]) == ("sim_arm", "10.0.0.5", "false")
    assert set(given) <= {argument.name for argument in ARGUMENTS}


def test_the_simulated_robot_understands_its_arguments(demo):
    robot, _ = started(demo, DEMO_ARGUMENTS, {})
    environment = os.environ | robot.named["additional_env"]
    command = [*robot.named["cmd"], "--help"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for argument in ("--camera-hz", "--seed"):
        assert argument in done.stdout


def test_a_simulated_robot_that_cannot_start_ends_the_demo_with_an_error(demo):
    robot, _ = started(demo, DEMO_ARGUMENTS, {})
    robot.named["on_exit"](ProcessExited(0), Context())
    with pytest.raises(ProcessEndedError, match="pip install mujoco"):
        robot.named["on_exit"](ProcessExited(1), Context())


def test_the_demo_needs_its_robot(demo, tmp_path):
    share = tmp_path / "share" / "openpi_flash"
    (share / "examples").unlink()
    with pytest.raises(LaunchArgumentError, match="build openpi_flash from a whole clone"):
        started(demo, DEMO_ARGUMENTS, {})


def test_what_the_demo_starts_is_installed():
    rules = (REPOSITORY / "src" / "openpi_flash" / "CMakeLists.txt").read_text()
    assert '"${root}/examples/sim_robot"' in rules


def test_the_executable_that_is_launched_is_the_one_that_is_installed():
    setup = (REPOSITORY / "src" / "openpi_flash_client_node" / "setup.py").read_text()
    assert '"client_node = openpi_flash_client_node.__main__:main"' in setup


@pytest.mark.parametrize(("name", "arguments"), [("robot", ARGUMENTS), ("demo", DEMO_ARGUMENTS)])
def test_a_real_launch_reads_the_file(name, arguments):
    pytest.importorskip("launch_ros", reason="ROS's launch is in no wheel")
    launch = pytest.importorskip("launch")
    description = load(name).generate_launch_description()
    assert isinstance(description, launch.LaunchDescription)
    names = {argument.name for argument in description.get_launch_arguments()}
    assert names == {argument.name for argument in arguments}
