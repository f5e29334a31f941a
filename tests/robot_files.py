"""The node's parameter files, and the metadata that the server sends for each robot.

The policies are the server's own, with a model that answers smooth random motions: within the
robot's contract, and from where the robot is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.config.table import all_configs
from openpi_flash_models.model.shape import named_shape
from openpi_flash_models.policy.action_policy import ModelPolicy
from openpi_flash_models.policy.flow_actions import FlowActions
from openpi_flash_models.robots import ROBOTS
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer
from openpi_flash_models.transforms.norm_stats import FieldStats, NormStats
from openpi_flash_robot.settings.parse_settings import settings_from_parameters
from openpi_flash_server.serving.metadata import action_metadata

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "config" / "robots"
TOKENIZER = ROOT / "src/openpi_flash_models/tests/data/paligemma_tokenizer.model"
TEMPLATE = "template"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SERVED = sorted(ROBOTS)

PERIOD_S = 7.0
"""Of the motions."""
REACH = 0.6
"""rad or m that a joint goes to each side of where it is, at most."""


def parameters_of(name):
    """The parameters of a file, by their full names."""
    return flat(yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["/**"]["ros__parameters"])


def settings_of(name, **changes):
    """The settings of a file; parameters may be changed, with __ for a dot."""
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return settings_from_parameters(parameters_of(name) | changes)


def flat(tree, prefix=""):
    """The values of nested maps, by their names with dots."""
    values = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value
    return values


@dataclass
class Motions:
    """A model whose actions are sines of the time that has been played, in [-1, 1].

    A joint's own number is how far to go from where it is: so it goes with the sine's difference.
    """

    horizon: int
    rate_hz: float
    relative: np.ndarray
    prepares_rtc = False
    prepares_other_steps = False
    token_buckets = None
    shape = named_shape("pi05")
    seconds: float = 0.0
    gain: np.ndarray | float = 1.0
    phases: np.ndarray = field(init=False)

    def __post_init__(self):
        self.phases = np.random.default_rng(5).uniform(0.0, 6.28, self.shape.action_dim)

    def sample(self, inputs, noise, num_steps, guidance):
        times = self.seconds + np.arange(self.horizon + 1) / self.rate_hz
        waves = np.sin(self.phases + 6.28 / PERIOD_S * times[:, None])
        waves[:, : len(self.relative)] -= np.where(self.relative, waves[0, : len(self.relative)], 0)
        return (self.gain * waves[None, 1:] / 2.0).astype(np.float32)


def motions_of(name):
    """A model for a robot that is served."""
    return _motions_of(ROBOTS[name])


def _motions_of(robot):
    """A model for a robot, by the horizon of its shortest config."""
    # not all that are registered: a robot file of another test may have added some
    horizons = [c.action_horizon for c in all_configs() if c.robot.name == robot.name]
    relative = np.array([action.interface == "position" for action in robot.actions])
    return Motions(min(horizons, default=16), robot.control_hz, relative)


def policy_of(name, model):
    """The server's policy for a robot that is served, with a model of `motions_of`."""
    return _policy_of(ROBOTS[name], model)


def _policy_of(robot, model):
    relative = model.relative
    state_size = sum(part.size for part in robot.state)
    mask = tuple(relative.tolist())[: min(len(relative), state_size)]
    config = InferenceConfig(
        f"random_{robot.name}", robot, robot.name, model.horizon, delta_mask=mask
    )
    state = FieldStats(
        np.zeros(state_size), np.ones(state_size), np.full(state_size, -1.0), np.ones(state_size)
    )
    low, high = (_of_model(robot, side, relative) for side in (-1.0, 1.0))
    actions = FieldStats(
        np.zeros(len(low)), np.ones(len(low)), np.minimum(low, high), np.maximum(low, high)
    )
    return ModelPolicy(
        config,
        FlowActions(model, config),
        NormStats(state, actions),
        PaligemmaTokenizer(TOKENIZER),
    )


def _of_model(robot, side, relative):
    """What the model says for the end of a motion, [A]: of a joint the way there."""
    ends = np.array([_end(action, side) for action in robot.actions])
    at_end, at_zero = (
        robot.actions_to_model(numbers[None])[0] for numbers in (ends, np.zeros_like(ends))
    )
    return np.where(relative, at_end - at_zero, at_end)


def _end(action, side):
    if action.interface == "gripper":
        return action.closed if side > 0 else action.open
    return side * REACH


def metadata_of(name):
    """What the server sends of the policy of a robot that is served."""
    return robot_metadata(ROBOTS[name])


def robot_metadata(robot):
    """What the server sends of a robot's policy."""
    return action_metadata(_policy_of(robot, _motions_of(robot)).spec, has_planner=False)
