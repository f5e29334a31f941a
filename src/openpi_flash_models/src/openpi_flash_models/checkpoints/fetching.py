"""Downloads checkpoints, after a check of their layout from the listing alone."""

from __future__ import annotations

from pathlib import Path

from openpi_flash_models.checkpoints.layout import PARAMS, is_params_directory, layout_of
from openpi_flash_models.checkpoints.lerobot import PREPROCESSOR
from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.config.named_configs import get_config
from openpi_flash_models.downloads import cached, fetch, is_remote, list_names
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.transforms.norm_stats import FILE_NAME


def fetch_policy_checkpoint(location: str, config_name: str) -> Path:
    """The directory of an action policy's checkpoint, downloaded if it is a URL.

    Args:
        location: a path or a URL.
        config_name: of the config, which names the statistics that it needs.

    Raises:
        InferenceConfigError: there is no such config.
        CheckpointError: what the URL names is no checkpoint, or has no such statistics.
        DownloadError: it could not be fetched.
    """
    config = get_config(config_name)
    if is_missing(location):
        check_policy_names(list_names(location), location, config)
    return fetch(location)


def fetch_planner_checkpoint(location: str) -> Path:
    """The directory of a planner's checkpoint, or its ``params``, downloaded if it is a URL.

    Args:
        location: a path or a URL, also of the ``params`` directory alone.

    Raises:
        CheckpointError: what the URL names is no checkpoint.
        DownloadError: it could not be fetched.
    """
    if is_missing(location):
        check_planner_names(list_names(location), location)
    return fetch(location)


def is_missing(location: str) -> bool:
    """Whether a location has to be downloaded."""
    return is_remote(location) and not cached(location).exists()


def check_policy_names(names: list[str], location: str, config: InferenceConfig) -> None:
    """Check that a listing is an action policy's checkpoint.

    Args:
        names: of files below the location; one empty name is a file.
        location: for messages.
        config: names the statistics.

    Raises:
        CheckpointError: it is none, or lacks the config's statistics.
    """
    _refuse_file(names, location)
    layout = layout_of(names, location)
    if f"assets/{config.asset_id}/{FILE_NAME}" in names:
        return
    if any(name.startswith(PREPROCESSOR) for name in names) or layout == "safetensors":
        return  # LeRobot's: in files of its own, or among the tensors
    there = sorted(
        name.removeprefix("assets/").removesuffix(f"/{FILE_NAME}")
        for name in names
        if name.startswith("assets/") and name.endswith(f"/{FILE_NAME}")
    )
    has = f"statistics for {', '.join(there)}" if there else "no statistics at all"
    raise CheckpointError(
        f"{location}: assets/{config.asset_id}/{FILE_NAME} is missing, which the config "
        f"{config.name} needs: the checkpoint has {has}"
    )


def check_planner_names(names: list[str], location: str) -> None:
    """Check that a listing is a planner's checkpoint.

    Raises:
        CheckpointError: it is none.
    """
    _refuse_file(names, location)
    if is_params_directory(names) and location.rstrip("/").rpartition("/")[2] == PARAMS:
        return
    layout_of(names, location)


def _refuse_file(names: list[str], location: str) -> None:
    if names == [""]:
        raise CheckpointError(f"{location} is one file, give the directory that it is in")
