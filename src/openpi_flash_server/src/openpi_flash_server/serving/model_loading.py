"""Loads the models that settings name, from their checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from openpi_flash_models.model.rearrangements import Rearrangements
from openpi_flash_models.policy.policy_protocol import ActionPolicy
from openpi_flash_server.config.action_settings import ActionSettings
from openpi_flash_server.config.model_settings import Dtype, GraphSettings
from openpi_flash_server.config.planner_settings import PlannerSettings
from openpi_flash_server.config.policy_name import NULL_MODEL
from openpi_flash_server.handlers.null_policy import NullPolicy
from openpi_flash_server.handlers.planning import Planner
from openpi_flash_server.serving.endpoint import StartError
from openpi_flash_server.serving.own_policy_loading import load_own_policy


def download(settings: ActionSettings | PlannerSettings) -> None:
    """Fetches the checkpoint that the settings name, unless it is on this machine."""
    from openpi_flash_models.checkpoints.fetching import (
        fetch_planner_checkpoint,
        fetch_policy_checkpoint,
    )
    from openpi_flash_models.downloads import fetch

    if isinstance(settings, PlannerSettings):
        with _naming("planner.checkpoint_dir"):
            fetch_planner_checkpoint(settings.checkpoint_dir)
        return
    with _naming("action.checkpoint_dir"):
        if settings.names_inference_config:
            fetch_policy_checkpoint(settings.checkpoint_dir, settings.model_config_name)
        else:
            fetch(settings.checkpoint_dir)


def load_policy(settings: ActionSettings) -> ActionPolicy:
    """The policy that the settings name."""
    if settings.runs_on_ray:
        from openpi_flash_server.serving.replica_loading import load_replicas

        return load_replicas(settings)
    if settings.model_config_name == NULL_MODEL:
        return NullPolicy()
    if not settings.names_inference_config:
        return load_own_policy(settings)
    from openpi_flash_models.checkpoints.fetching import fetch_policy_checkpoint

    with _naming("action.checkpoint_dir"):
        checkpoint = fetch_policy_checkpoint(settings.checkpoint_dir, settings.model_config_name)
        from openpi_flash_models.load import load_policy as load

        return load(
            settings.model_config_name,
            checkpoint,
            default_prompt=settings.default_prompt,
            framework=settings.framework,
            dtype=_dtype(settings.dtype),
            graph=_graph(settings.graph),
            rtc=settings.rtc.options(),
            max_batch=settings.max_batch,
            normalization=settings.normalization,
            malformed_tokens=settings.malformed_tokens,
        )


def load_planner(settings: PlannerSettings, robot: str | None) -> Planner:
    """The planner that the settings name, with the cameras of `robot`."""
    from openpi_flash_models.checkpoints.fetching import fetch_planner_checkpoint

    with _naming("planner.checkpoint_dir"):
        checkpoint = fetch_planner_checkpoint(settings.checkpoint_dir)
        from openpi_flash_models.load import load_planner as load

        return load(
            checkpoint,
            max_generation_tokens=settings.max_generation_tokens,
            generation_prompt_format=settings.generation_prompt_format,
            robot=robot,
            dtype=_dtype(settings.dtype),
            missing_cameras=settings.missing_cameras,
            block_tokens=settings.block_tokens,
        )


@contextlib.contextmanager
def _naming(field: str) -> Iterator[None]:
    """Adds the setting to errors about a checkpoint."""
    from openpi_flash_models.errors import CheckpointError, DownloadError

    try:
        yield
    except (CheckpointError, DownloadError) as error:
        raise StartError(f"{field}: {error}") from error


def _dtype(name: Dtype) -> str | None:
    return None if name == "auto" else name


def _graph(settings: GraphSettings) -> Rearrangements | None:
    """The switches, if one was set: they are for JAX only."""
    if not settings.model_fields_set:
        return None
    from openpi_flash_models.jax_models.build import graph_of_device

    return settings.options(graph_of_device())
