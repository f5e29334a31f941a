"""Finds a checkpoint's statistics for a config: openpi's file, else LeRobot's."""

from __future__ import annotations

import logging
from pathlib import Path

from openpi_flash_models.checkpoints.lerobot import read_lerobot_stats
from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.transforms.norm_stats import FILE_NAME, NormStats, read_norm_stats

log = logging.getLogger(__name__)


def read_statistics(checkpoint: Path, config: InferenceConfig) -> NormStats:
    """Read the statistics of a checkpoint that a config uses.

    Args:
        checkpoint: a directory.
        config: names the statistics; a LeRobot checkpoint has those of its own robot only.

    Raises:
        CheckpointError: they are missing, broken, or have fewer dimensions than the robot.
    """
    if not (checkpoint / "assets" / config.asset_id / FILE_NAME).exists():
        found = read_lerobot_stats(checkpoint)
        if found is not None:
            if any(config.delta_mask) != found.relative_actions:
                log.warning(
                    "%s: its actions are %s, the config %s reads them as %s",
                    found.stats.source,
                    *(
                        ("relative to the state", config.name, "absolute")
                        if found.relative_actions
                        else ("absolute", config.name, "relative to the state")
                    ),
                )
            check_sizes(found.stats, config)
            return found.stats
    stats = read_norm_stats(checkpoint, config.asset_id)
    check_sizes(stats, config)
    return stats


def check_sizes(stats: NormStats, config: InferenceConfig) -> None:
    """Compare statistics with the robot.

    Raises:
        CheckpointError: they have fewer dimensions.
    """
    robot = config.robot
    state_size = sum(part.size for part in robot.state)
    for name, has, needs in (
        ("state", stats.state.size, state_size),
        ("actions", stats.actions.size, len(robot.action_names)),
    ):
        if has < needs:
            raise CheckpointError(
                f"{stats.source}: {name} has {has} dimensions, the robot {robot.name} has {needs}"
            )
