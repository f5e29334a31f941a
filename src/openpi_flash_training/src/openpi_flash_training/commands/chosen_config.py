"""The inference config that a command's options choose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from openpi_flash_models.config.inference_config import InferenceConfig
    from openpi_flash_models.robots.robot import Robot


def chosen_robot(name: str, robot_file: Path | None) -> Robot:
    """The robot of a name, ours or of the user's file.

    Raises:
        InferenceConfigError: there is none.
    """
    from openpi_flash_models.config.robot_file import add_robot_file
    from openpi_flash_models.errors import InferenceConfigError
    from openpi_flash_models.robots import ROBOTS

    if robot_file is not None:
        add_robot_file(robot_file)
    if name not in ROBOTS:
        known = ", ".join(sorted(ROBOTS))
        raise InferenceConfigError(f"no robot named {name!r}, known: {known}")
    return ROBOTS[name]


def chosen_config(
    config: str | None,
    robot: str | None,
    robot_file: Path | None,
    horizon: int | None,
    delta: str | None,
) -> InferenceConfig:
    """A named config, or one made of a robot, a horizon and the relative actions.

    Raises:
        InferenceConfigError: there is no such config or robot.
        typer.BadParameter: the options contradict each other.
    """
    from openpi_flash_models.config.inference_config import InferenceConfig
    from openpi_flash_models.config.named_configs import get_config
    from openpi_flash_models.config.robot_file import add_robot_file

    if (config is None) == (robot is None):
        raise typer.BadParameter("give either --config or --robot")
    if config is not None:
        if horizon is not None or delta is not None:
            raise typer.BadParameter("--horizon and --delta are for --robot; a config has its own")
        if robot_file is not None:
            add_robot_file(robot_file)
        return get_config(config)
    assert robot is not None
    return InferenceConfig(
        name=robot,
        robot=chosen_robot(robot, robot_file),
        asset_id=robot,
        action_horizon=50 if horizon is None else horizon,
        delta_mask=_mask(delta),
    )


def _mask(delta: str | None) -> tuple[bool, ...]:
    from openpi_flash_models.transforms.delta import delta_mask

    try:
        return delta_mask(*(int(run) for run in delta.split(","))) if delta else ()
    except ValueError:
        raise typer.BadParameter(
            f"--delta is {delta!r}, expected counts such as 6,-1: six relative, one absolute"
        ) from None
