"""Named inference configs: what a checkpoint does not say about itself.

The names are openpi's (``table.py``), and those of the files that a user adds
(``robot_file.py``).
"""

from __future__ import annotations

import difflib

from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.config.table import UNSERVABLE, all_configs
from openpi_flash_models.errors import InferenceConfigError

__all__ = ["CONFIGS", "InferenceConfig", "config_names", "get_config", "register"]

CONFIGS: dict[str, InferenceConfig] = {config.name: config for config in all_configs()}
"""Every config by its name."""


def register(config: InferenceConfig) -> None:
    """Add a config.

    Raises:
        InferenceConfigError: another one has the name.
    """
    if CONFIGS.setdefault(config.name, config) is not config:
        raise InferenceConfigError(
            f"there is a config named {config.name!r} already, choose another name"
        )


def get_config(name: str) -> InferenceConfig:
    """The config of a name.

    Raises:
        InferenceConfigError: there is none; names the closest ones.
    """
    if name in CONFIGS:
        return CONFIGS[name]
    if name in UNSERVABLE:
        raise InferenceConfigError(f"config {name} cannot be served: {UNSERVABLE[name]}")
    close = difflib.get_close_matches(name, CONFIGS, n=3, cutoff=0.4)
    known = f"closest: {', '.join(close)}" if close else f"known: {', '.join(sorted(CONFIGS))}"
    raise InferenceConfigError(f"no config named {name!r}, {known}")


def config_names() -> tuple[str, ...]:
    """Names of all configs, in order."""
    return tuple(sorted(CONFIGS))
