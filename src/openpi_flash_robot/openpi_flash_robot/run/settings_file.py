"""The node's parameters for a robot without ROS: from keywords, or from the node's YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from openpi_flash_robot.settings.bounds import bounded
from openpi_flash_robot.settings.joint_limits_file import limits_from_file
from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.parse_settings import settings_from_parameters

SOURCE = "read()"
"""Where images and joints come from, in messages: there are no topics."""

FOREIGN = frozenset({"use_sim_time"})
"""Parameters of every ROS node, which mean nothing here."""


def robot_settings(**parameters: Any) -> NodeSettings:
    """Settings from the parameters of docs/robot_parameters.md.

    Names with dots are nested, as in the file: `camera={"scene": {"key": "observation/image"}}`.
    Where no controllers are named, one that takes positions moves every axis.

    Raises:
        ParameterError: a parameter is unknown, missing, of the wrong type, out of range, or does
            not fit another one.
    """
    given = _flat(parameters)
    for name in FOREIGN:
        given.pop(name, None)
    for camera in given.get("cameras", ()):
        given.setdefault(f"camera.{camera}.topic", SOURCE)
    if not given.get("controllers"):
        given |= {"controllers": ["robot"], "controller.robot.kind": "position"}
    for name in given["controllers"]:
        if given.get(f"controller.{name}.kind") == "pose":
            given.pop(f"controller.{name}.child_frame", None)
            given[f"controller.{name}.pose_topic"] = SOURCE
    # commands are sampled in this process: nothing delays them
    given.setdefault("min_lead_time", 0.0)
    settings = settings_from_parameters(given)
    settings = bounded(settings, limits_from_file(settings))
    seen = settings.observation
    cameras = tuple(replace(camera, topic=SOURCE) for camera in seen.cameras)
    return replace(
        settings,
        observation=replace(seen, cameras=cameras, joint_state_topics=(SOURCE,)),
        stamp_trajectories=True,
    )


def load_settings(path: str | Path, **changes: Any) -> NodeSettings:
    """Settings from a parameter file of the node, such as config/robots/template.yaml.

    Topics in it are ignored. Sections of other nodes are, too.

    Args:
        path: of the YAML file.
        changes: override what is in it; as for `robot_settings`.

    Raises:
        ParameterError: the file cannot be read or is no parameter file, or what
            `robot_settings` raises.
    """
    return robot_settings(**(file_parameters(path) | _flat(changes)))


def file_parameters(path: str | Path) -> dict[str, Any]:
    """The node's parameters in a file, by names with dots, not checked.

    Raises:
        ParameterError: the file cannot be read or is no parameter file.
    """
    try:
        content = yaml.safe_load(Path(path).expanduser().read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParameterError(f"{path}: {error}") from None
    return _parameters_of(content, path)


def _parameters_of(content: Any, path: str | Path) -> dict[str, Any]:
    """What a parameter file says to the node, flat."""
    sections = content if isinstance(content, Mapping) else {}
    found: dict[str, Any] = {}
    has_section = False
    for name, section in sections.items():
        is_ours = str(name).rpartition("/")[2] in ("**", "*", "client_node")
        if is_ours and isinstance(section, Mapping):
            parameters = section.get("ros__parameters")
            if isinstance(parameters, Mapping):
                has_section = True
                found |= _flat(parameters)
    if not has_section:
        raise ParameterError(
            f"{path} holds no parameters of the node; it begins with `/**:` and "
            "`ros__parameters:` above its parameters"
        )
    return found


def _flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Names with dots for what is nested."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": item for inner, item in _flat(value).items()}
        else:
            flat[str(name)] = value.tolist() if hasattr(value, "tolist") else value
    return flat
