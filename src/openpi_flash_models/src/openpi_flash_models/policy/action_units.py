"""Converts actions between a robot's units and the normalised space of a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.transforms.delta import absolute_actions, relative_actions
from openpi_flash_models.transforms.norm_stats import FieldStats, Scaling
from openpi_flash_models.transforms.normalize import normalize, unnormalize


@dataclass(frozen=True)
class ActionUnits:
    """The action transforms of one robot and one checkpoint, in openpi's order.

    Shapes: H steps, D numbers of an action, S of the state.

    Attributes:
        robot: whose units.
        delta_mask: which dimensions are relative to the state, in the model's space.
        stats: of the actions.
        scaling: how they are scaled.
    """

    robot: Robot
    delta_mask: tuple[bool, ...]
    stats: FieldStats
    scaling: Scaling

    @property
    def can_reach_model(self) -> bool:
        """Whether the robot's actions can be converted to the model's."""
        return self.robot.actions_to_model is not None

    def to_robot(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """The model's actions [H, A] in the robot's units [H, D], float64.

        Args:
            actions: normalised; dimensions beyond the robot's are padding.
            state: [S] in the model's space, not normalised, at the time of the observation.
        """
        result = unnormalize(actions.astype(np.float64), self.stats, self.scaling)
        result = absolute_actions(result, state, self.delta_mask)
        return self.robot.actions_to_robot(result[:, : len(self.robot.action_names)])

    def to_model(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """The robot's actions [H, D], normalised: the inverse of :meth:`to_robot`, not padded.

        What a model is trained to predict, and how it reads the chunk that the robot is playing.

        Args:
            actions: in the robot's units.
            state: as for :meth:`to_robot`.

        Raises:
            ValueError: the robot has no ``actions_to_model``.
        """
        return normalize(self.relative(actions, state), self.stats, self.scaling)

    def relative(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """As :meth:`to_model`, before normalisation: what the statistics are of."""
        if self.robot.actions_to_model is None:
            raise ValueError(f"the robot {self.robot.name} has no actions_to_model")
        in_model = self.robot.actions_to_model(np.asarray(actions, np.float64))
        return relative_actions(in_model, state, self.delta_mask)
