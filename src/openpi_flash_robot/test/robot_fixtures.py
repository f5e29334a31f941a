"""The robot that the tests of this package and of the ROS node speak about."""

import dataclasses
import socket

import hypothesis
import numpy as np
import pytest
from bridge_world import World

from openpi_flash_robot.settings.node_settings import NodeSettings, PlayerSettings
from openpi_flash_robot.settings.parse_settings import settings_from_parameters

# an example may take long on a busy machine
hypothesis.settings.register_profile("any_machine", deadline=None)
hypothesis.settings.load_profile("any_machine")

PARAMETERS = {
    "server": "127.0.0.1",
    "prompt": "stack the cubes",
    "dry_run": False,
    "cameras": ["scene", "wrist"],
    "camera.scene.topic": "/scene/image_raw",
    "camera.scene.key": "observation/scene_image",
    "camera.wrist.topic": "/wrist/image_raw",
    "camera.wrist.key": "observation/wrist_image",
    "joints": ["shoulder", "elbow", "gripper"],
    "max_velocity": [1.0, 1.0, 2.0],
    "max_start_delta": [0.5],
    "position_lower": [-2.0, -2.0, 0.0],
    "position_upper": [2.0, 2.0, 1.0],
    "controllers": ["arm", "hand"],
    "controller.arm.joints": ["shoulder", "elbow"],
    "controller.hand.joints": ["gripper"],
    "action_kind": "position",
    # the cameras of the tests have no noise
    "max_frozen_time": 0.0,
}


@pytest.fixture
def parameters() -> dict:
    return dict(PARAMETERS)


@pytest.fixture
def settings() -> NodeSettings:
    return settings_from_parameters(PARAMETERS)


@pytest.fixture
def player_settings(settings) -> PlayerSettings:
    return settings.player


@pytest.fixture
def replace():
    return dataclasses.replace


@pytest.fixture
def world(settings) -> World:
    return World(settings)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on, neither by TCP nor by UDP."""
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        return tcp.getsockname()[1]
