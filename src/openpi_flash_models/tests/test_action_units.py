"""Actions go from a robot's units to the model's space and back."""

import dataclasses

import numpy as np
import pytest

from openpi_flash_models.policy.action_units import ActionUnits
from openpi_flash_models.robots import get_robot
from openpi_flash_models.transforms.delta import delta_mask
from openpi_flash_models.transforms.norm_stats import FieldStats


@pytest.fixture(scope="module")
def stats():
    generator = np.random.default_rng(0)
    low = generator.normal(size=14)
    return FieldStats(
        mean=generator.normal(size=14),
        std=generator.uniform(0.5, 2, 14),
        q01=low,
        q99=low + generator.uniform(0.5, 2, 14),
    )


@pytest.mark.parametrize("scaling", ["mean_std", "quantile"])
def test_the_robots_actions_come_back(scaling, stats):
    units = ActionUnits(get_robot("aloha"), delta_mask(6, -1, 6, -1), stats, scaling)
    generator = np.random.default_rng(1)
    model, state = generator.normal(size=(5, 14)), generator.normal(size=14)
    padded = np.concatenate([model, generator.normal(size=(5, 18))], axis=1)
    robot = units.to_robot(padded, state)
    assert robot.shape == (5, 14)
    np.testing.assert_allclose(units.to_model(robot, state), model, atol=1e-9)
    # the relative dimensions alone follow the state
    moved = units.to_model(robot, state + 1.0) - model
    assert np.abs(moved[:, [6, 13]]).max() < 1e-12
    assert (np.abs(moved[:, :6]) > 0.1).all()


def test_statistics_are_of_actions_that_are_relative_but_not_scaled(stats):
    units = ActionUnits(get_robot("aloha"), delta_mask(6, -1, 6, -1), stats, "mean_std")
    state, actions = np.linspace(-1, 1, 14), np.zeros((2, 14))
    in_model = units.robot.actions_to_model(actions)
    relative = units.relative(actions, state)
    np.testing.assert_allclose(relative[:, :6], in_model[:, :6] - state[:6])
    np.testing.assert_allclose(relative[:, 6], in_model[:, 6])


def test_a_robot_without_the_way_back_is_refused(stats):
    robot = dataclasses.replace(get_robot("aloha"), actions_to_model=None)
    units = ActionUnits(robot, (), stats, "mean_std")
    assert not units.can_reach_model
    with pytest.raises(ValueError, match="aloha has no actions_to_model"):
        units.to_model(np.zeros((1, 14)), np.zeros(14))
