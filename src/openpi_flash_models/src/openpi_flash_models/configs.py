"""Named inference configs: what a checkpoint does not say about itself."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openpi_flash_models.errors import ConfigError
from openpi_flash_models.robots import Robot
from openpi_flash_models.robots.aloha import ALOHA
from openpi_flash_models.robots.droid import DROID
from openpi_flash_models.robots.libero import LIBERO
from openpi_flash_models.robots.sim_arm import SIM_ARM
from openpi_flash_models.transforms.delta import delta_mask


@dataclass(frozen=True)
class InferenceConfig:
    """How a checkpoint is used. Names and values are openpi's where openpi has the config.

    Attributes:
        name: what users write.
        robot: whose requests it answers.
        asset_id: which statistics of the checkpoint to use.
        action_horizon: steps per chunk.
        max_token_len: prompt slots.
        discrete_state_input: whether the state is written into the prompt.
        delta_mask: which actions are relative to the state; empty: none.
        metadata: sent to clients as it is.
    """

    name: str
    robot: Robot
    asset_id: str
    action_horizon: int
    max_token_len: int = 200
    discrete_state_input: bool = True
    delta_mask: tuple[bool, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


_ALL = (
    InferenceConfig(
        "pi05_aloha",
        ALOHA,
        "trossen",
        action_horizon=50,
        delta_mask=delta_mask(6, -1, 6, -1),
        metadata={"reset_pose": [0, -1.5, 1.5, 0, 0, 0]},
    ),
    InferenceConfig("pi05_droid", DROID, "droid", action_horizon=15),
    InferenceConfig(
        "pi05_libero",
        LIBERO,
        "physical-intelligence/libero",
        action_horizon=10,
        discrete_state_input=False,
    ),
    InferenceConfig("pi05_sim_arm", SIM_ARM, "sim_arm", action_horizon=50),
)
CONFIGS = {config.name: config for config in _ALL}
CONFIG_NAMES = tuple(sorted(CONFIGS))


def get_config(name: str) -> InferenceConfig:
    """The config of a name.

    Raises:
        ConfigError: there is none; names the closest ones.
    """
    if name in CONFIGS:
        return CONFIGS[name]
    close = difflib.get_close_matches(name, CONFIG_NAMES, n=3, cutoff=0.3)
    raise ConfigError(
        f"no config named {name!r}, closest: {', '.join(close)}"
        if close
        else f"no config named {name!r}, known: {', '.join(CONFIG_NAMES)}"
    )
