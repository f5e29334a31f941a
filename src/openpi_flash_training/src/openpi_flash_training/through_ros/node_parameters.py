"""What the robot's node is told of the simulated arm: as the evaluation without ROS, and topics."""

from __future__ import annotations

from typing import Any

from openpi_flash_training.evaluation.arm_settings import arm_parameters
from openpi_flash_training.evaluation.conditions import Conditions
from sim_robot.robot import (
    CAMERAS,
    CONTROLLER,
    JOINT_STATES_TOPIC,
    TRAJECTORY_TOPIC,
    camera_topic,
)


def node_parameters(control_hz: float = 50.0) -> dict[str, Any]:
    """The parameters by their names; those with dots are nested."""
    parameters = arm_parameters()
    camera = {name: {"topic": camera_topic(name), **parameters["camera"][name]} for name in CAMERAS}
    return {
        **parameters,
        "camera": camera,
        # episodes begin when the referee says so
        "autostart": False,
        "joint_state_topics": [JOINT_STATES_TOPIC],
        "controllers": [CONTROLLER],
        "controller": {CONTROLLER: {"topic": TRAJECTORY_TOPIC}},
        # a software renderer on a busy machine is slower than a camera
        "max_observation_age": 0.5,
        "max_camera_skew": 0.1,
        "request_timeout": 2.0,
        "control_rate_hz": control_hz,
    }


def method_parameters(given: Conditions, horizon: int | None, step_ns: int) -> dict[str, Any]:
    """How chunks are played; these parameters may change while the node runs.

    Args:
        given: says by which method, and for how long.
        horizon: steps of the server's chunks; None: it does not say.
        step_ns: between two of them.
    """
    steps = max(1, round(given.execution_s * 1e9 / step_ns))
    whole = {} if horizon is None else {"max_chunk_age": horizon * step_ns / 1e9}
    return {"chunk_method": given.method, "execution_horizon": steps, **whole}
