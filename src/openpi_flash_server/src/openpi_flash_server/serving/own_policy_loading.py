"""Loads a policy that is not ours: a user's Python object, or LeRobot's."""

from __future__ import annotations

from typing import Any

from openpi_flash_server.config.action_settings import ActionSettings
from openpi_flash_server.config.policy_name import LEROBOT, python_name
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.own_policy.errors import PolicyLoadError
from openpi_flash_server.own_policy.own_policy import OwnPolicy, own_policy
from openpi_flash_server.own_policy.python_object import make_policy
from openpi_flash_server.serving.endpoint import StartError

log = EventLogger(__name__)


def load_own_policy(settings: ActionSettings) -> OwnPolicy:
    """The policy that the settings name, not warm yet.

    Raises:
        StartError: names the setting and what is wrong.
    """
    name = settings.model_config_name
    try:
        if name == LEROBOT:
            # torch comes with it
            from openpi_flash_server.own_policy.lerobot_policy import LeRobotPolicy

            made: Any = LeRobotPolicy(
                _local(settings.checkpoint_dir), default_prompt=settings.default_prompt
            )
        else:
            python = python_name(name)
            assert python is not None
            checkpoint = _local(settings.checkpoint_dir) if settings.checkpoint_dir else None
            arguments = {
                "checkpoint_dir": checkpoint,
                "default_prompt": settings.default_prompt,
            }
            made = make_policy(python, arguments)
        return own_policy(made, name, default_prompt=settings.default_prompt)
    except PolicyLoadError as error:
        if error.__cause__ is not None:
            # the traceback of the user's code
            log.error("the policy could not be loaded", exception=error.__cause__)
        raise StartError(f"action.model_config_name {name}: {error}") from error


def _local(checkpoint_dir: str) -> str:
    """The checkpoint on this machine; a URL is downloaded first."""
    from openpi_flash_models.downloads import fetch
    from openpi_flash_models.errors import DownloadError

    try:
        return str(fetch(checkpoint_dir))
    except DownloadError as error:
        raise StartError(f"action.checkpoint_dir: {error}") from error
