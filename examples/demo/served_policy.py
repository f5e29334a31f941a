"""Which policy the demo serves: one that was trained for the arm, or random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sim_robot.shipped_policy import CONFIG, NODE_FILE, ROBOT_FILE, policy_in, shipped_policy

UNTRAINED_CONFIG = "pi05_sim_arm"


@dataclass(frozen=True)
class ServedPolicy:
    """What the server loads and how the robot's node plays it.

    Attributes:
        config: name of the inference config.
        action: its checkpoint.
        planner: checkpoint of the planner; None: no subtask is said.
        robot_file: defines the config; None: it is the project's own.
        node_file: the parameters of the robot's node.
        is_trained: whether it does tasks, so that they are counted.
    """

    config: str
    action: Path
    planner: Path | None
    robot_file: Path | None
    node_file: Path
    is_trained: bool


def untrained(checkpoint: Path, node_file: Path) -> ServedPolicy:
    """The random weights of `openpi-flash make-demo-checkpoint`: the arm moves, and means nothing.

    Args:
        checkpoint: the folder that the command has written.
        node_file: parameters that are wide and slow.
    """
    return ServedPolicy(
        UNTRAINED_CONFIG, checkpoint / "action", checkpoint / "planner", None, node_file, False
    )


def trained(weights: Path | None) -> ServedPolicy | None:
    """A policy that was trained for the arm; None where there is none.

    Args:
        weights: checkpoint of the user's; None: the one that comes with the project.
    """
    found = shipped_policy() if weights is None else policy_in(weights)
    if found is None:
        return None
    return ServedPolicy(CONFIG, found.action, found.planner, ROBOT_FILE, NODE_FILE, True)
