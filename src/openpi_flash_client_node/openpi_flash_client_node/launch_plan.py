"""Turns the arguments of the launch files into what they start. Independent of `launch`.

An empty argument keeps the value of the parameter file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class LaunchArgumentError(ValueError):
    """An argument of the launch file is wrong; the message is for the user."""


@dataclass(frozen=True)
class LaunchArgument:
    """An argument of the launch file.

    Attributes:
        name: as typed, name:=value.
        default: if it is not given.
        description: for `ros2 launch --show-args`.
        choices: the only values allowed; empty allows all.
    """

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


_FLAG = ("", "true", "false")
_TRANSPORTS = ("", "auto", "quic", "websocket")

ARGUMENTS = (
    LaunchArgument("server", "", "name or address of the policy server, with or without a port"),
    LaunchArgument("port", "", "port of the policy server; 0 is the transport's own"),
    LaunchArgument("transport", "", "how to reach the server", _TRANSPORTS),
    LaunchArgument("api_key_file", "", "file that holds the API key of the server"),
    LaunchArgument("prompt", "", "the instruction at start"),
    LaunchArgument("robot", "sim_arm", "which robot: the NAME of config/robots/NAME.yaml"),
    LaunchArgument("params_file", "", "a parameter file of your own, instead of the robot's"),
    LaunchArgument("namespace", "openpi", "namespace of the node"),
    LaunchArgument("node_name", "client_node", "name of the node"),
    LaunchArgument(
        "use_sim_time", "", "true takes the time from /clock (a simulator, a bag)", _FLAG
    ),
    LaunchArgument(
        "respawn",
        "false",
        "true starts the node again 2 s after it has ended by itself, also after a wrong "
        "parameter; the arm then goes on moving",
        ("true", "false"),
    ),
    LaunchArgument("dry_run", "", "false moves the robot; true only shows chunks", _FLAG),
    LaunchArgument(
        "log_level",
        "info",
        "lowest level that the node logs",
        ("debug", "info", "warn", "error", "fatal"),
    ),
    LaunchArgument(
        "autostart",
        "",
        "configure and activate at start; false leaves it to a lifecycle manager",
        _FLAG,
    ),
)


DEMO_ARGUMENTS = (
    LaunchArgument("server", "127.0.0.1", "name or address of the policy server"),
    LaunchArgument("port", "", "port of the policy server; 0 is the transport's own"),
    LaunchArgument("transport", "", "how to reach the server", _TRANSPORTS),
    LaunchArgument("prompt", "", "the instruction at start"),
    LaunchArgument("dry_run", "false", "true only shows chunks", ("true", "false")),
    LaunchArgument("camera_hz", "10", "images per second of each simulated camera"),
    LaunchArgument("seed", "0", "moves the cubes"),
    LaunchArgument("python", sys.executable, "a Python that has MuJoCo and ROS's rclpy"),
)
"""Those of the demo; all but the last three go on to robot.launch.py."""


@dataclass(frozen=True)
class LaunchPlan:
    """How to start the node.

    Attributes:
        namespace: where it lives.
        node_name: its name.
        params_file: its parameters.
        overrides: parameters that win over the file.
        log_level: how much it logs.
        respawn: whether it is started again after it has ended by itself.
    """

    namespace: str
    node_name: str
    params_file: str
    overrides: Mapping[str, str | int | bool]
    log_level: str
    respawn: bool


def plan(arguments: Mapping[str, str], config: Path) -> LaunchPlan:
    """Read the arguments.

    Args:
        arguments: every entry of `ARGUMENTS`, as text.
        config: the folder whose robots/ has the NAME.yaml files.

    Raises:
        LaunchArgumentError: there is no such robot, or a value is not what it should be.
    """
    overrides: dict[str, str | int | bool] = {
        name: arguments[name] for name in _TEXTS if arguments[name]
    }
    if arguments["port"]:
        overrides["port"] = _port(arguments["port"])
    for name in ("dry_run", "autostart", "use_sim_time"):
        if arguments[name]:
            overrides[name] = arguments[name] == "true"
    return LaunchPlan(
        namespace=arguments["namespace"],
        node_name=arguments["node_name"],
        params_file=arguments["params_file"] or _robot_file(arguments["robot"], config),
        overrides=overrides,
        log_level=arguments["log_level"],
        respawn=arguments["respawn"] == "true",
    )


@dataclass(frozen=True)
class SimulatedRobot:
    """How to start the simulated robot.

    Attributes:
        command: program and arguments.
        python_path: where Python finds it, for PYTHONPATH.
    """

    command: tuple[str, ...]
    python_path: str


def simulated_robot(arguments: Mapping[str, str], share: Path, python_path: str) -> SimulatedRobot:
    """Read the arguments of the demo.

    Args:
        arguments: every entry of `DEMO_ARGUMENTS`, as text.
        share: the folder of the installed openpi_flash.
        python_path: the PYTHONPATH of now.

    Raises:
        LaunchArgumentError: the simulated robot is not installed.
    """
    examples = share / "examples"
    if not (examples / "sim_robot").is_dir():
        raise LaunchArgumentError(
            f"no simulated robot in {examples}; build openpi_flash from a whole clone"
        )
    command = (
        *(arguments["python"], "-m", "sim_robot"),
        *("--camera-hz", arguments["camera_hz"], "--seed", arguments["seed"]),
    )
    return SimulatedRobot(command, os.pathsep.join(filter(None, (str(examples), python_path))))


class ProcessEndedError(RuntimeError):
    """A process that the rest depends on has ended; ends `ros2 launch` with 1."""


def check_end(what: str, return_code: int | None, hint: str) -> None:
    """Take the end of a process.

    Args:
        what: the process, for people.
        return_code: of its end; 0 and None are as they should be.
        hint: what to look at.

    Raises:
        ProcessEndedError: it has ended with an error.
    """
    if return_code:
        raise ProcessEndedError(f"{what} has ended with {return_code}: {hint}")


NODE_HINT = "its last lines say why; a wrong parameter or argument ends it with 2"
SIM_HINT = "its last lines say why; it needs MuJoCo (`pip install mujoco`), see the argument python"
_TEXTS = ("server", "transport", "api_key_file", "prompt")


def _port(text: str) -> int:
    if not text.isdecimal():
        raise LaunchArgumentError(f"argument port must be a number, got {text!r}")
    return int(text)


def _robot_file(robot: str, config: Path) -> str:
    folder = config / "robots"
    path = folder / f"{robot}.yaml"
    if path.is_file():
        return str(path)
    robots = sorted(file.stem for file in folder.glob("*.yaml"))
    raise LaunchArgumentError(
        f"no robot {robot!r} in {folder}; there is {', '.join(robots) or 'none'}. "
        f"For one of your own, set params_file"
    )
