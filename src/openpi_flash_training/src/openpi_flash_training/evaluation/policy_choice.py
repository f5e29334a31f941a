"""Which policy is measured, and how it is opened."""

from __future__ import annotations

import os
from collections.abc import Callable

from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_training.evaluation.aloha_transfer_cube import AlohaTransferCube, aloha_settings
from openpi_flash_training.evaluation.arm_settings import arm_settings
from openpi_flash_training.evaluation.policy import ExpertPolicy, Policy
from openpi_flash_training.evaluation.scene import CubeScene, Scene
from openpi_flash_training.evaluation.served_policy import ServedPolicy, ServerChoice
from openpi_flash_training.evaluation.task_facts import ALOHA_TRANSFER_CUBE

PolicyChoice = ServerChoice | None
"""A server, or None for the scripted expert."""


def open_choice(
    choice: PolicyChoice, settings: Callable[..., NodeSettings] = arm_settings
) -> Policy:
    """The policy.

    Args:
        choice: which.
        settings: of the robot that it is to move.

    Raises:
        PolicyFailedError: the server cannot be used.
    """
    return ExpertPolicy() if choice is None else ServedPolicy(choice, os.environ, settings)


def open_scene(task: str) -> Scene:
    """The simulation of a task.

    Raises:
        AlohaUnavailableError: it is gym-aloha's, which is not installed.
    """
    return AlohaTransferCube() if task == ALOHA_TRANSFER_CUBE else CubeScene()


def name_of(choice: PolicyChoice, task: str) -> str:
    """What a policy is, for people.

    Raises:
        PolicyFailedError: the server cannot be used.
    """
    settings = aloha_settings if task == ALOHA_TRANSFER_CUBE else arm_settings
    policy = open_choice(choice, settings)
    policy.close()
    agreement = policy.agreement
    return " ".join(word for word in (agreement.model, agreement.checkpoint) if word) or "a policy"
