"""Loads a policy in processes of its own, one for each replica."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path

from openpi_flash_models.config.robot_file import add_robot_file, added_robot_files
from openpi_flash_models.policy.policy_protocol import ActionPolicy
from openpi_flash_server.config.action_settings import ActionSettings
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.own_policy.errors import PolicyLoadError
from openpi_flash_server.replicas.engine import LoadFailed, ReplicaLost
from openpi_flash_server.replicas.replicas import Replicas
from openpi_flash_server.replicas.replicated_policy import ReplicatedPolicy
from openpi_flash_server.serving.endpoint import StartError

log = EventLogger(__name__)


def load_replicas(settings: ActionSettings) -> ReplicatedPolicy:
    """The policy of the settings on replicas; returns when the first of them is warm.

    Raises:
        StartError: Ray is not installed, cannot be reached, or has no room.
        Exception: what loading raised in the first replica.
    """
    try:
        from openpi_flash_server.replicas.ray_engine import RayEngine
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise StartError(
            "action.engine: replicas need Ray: pip install './src/openpi_flash_server[ray]', or "
            "set replicas to 1 and engine to 'auto'"
        ) from error
    load = functools.partial(_load_one, settings.of_one_replica, added_robot_files())
    try:
        engine = RayEngine(load, address=settings.ray.address, gpus=settings.ray.gpus_per_replica)
    except ReplicaLost as error:
        raise StartError(f"action.ray: {error}") from error
    replicas = Replicas(
        engine,
        settings.replicas,
        in_flight=settings.ray.requests_in_flight,
        longest_call=settings.watchdog_s or math.inf,
    )
    try:
        return ReplicatedPolicy(replicas)
    except LoadFailed as error:
        replicas.close()
        if isinstance(error.cause, PolicyLoadError):
            log.error("the policy could not be warmed up", exception=error.cause)
            name = settings.model_config_name
            raise StartError(f"action.model_config_name {name}: {error}") from error
        raise error.cause from None
    except ReplicaLost as error:
        replicas.close()
        raise StartError(f"action.engine: the first replica was lost: {error}") from error


def _load_one(settings: ActionSettings, robot_files: Sequence[Path]) -> ActionPolicy:
    """The policy in the process of a replica, not warm yet."""
    from openpi_flash_server.serving.model_loading import load_policy

    for file in robot_files:
        add_robot_file(file)
    return load_policy(settings)
