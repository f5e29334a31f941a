"""plan.py: straight lines between points in time."""

import numpy as np
import pytest

from openpi_flash_client_node.play.plan import Plan

PLAN = Plan(
    times_ns=np.array([100, 200, 400]),
    positions=np.array([[0.0, 1.0], [1.0, 1.0], [3.0, -1.0]]),
    step_ns=100,
    start_ns=200,
    first_step=0,
    observation_ns=50,
    sequence=3,
    limited_steps=0,
)


@pytest.mark.parametrize(
    ("at_ns", "expected"),
    [
        (0, [0.0, 1.0]),
        (100, [0.0, 1.0]),
        (150, [0.5, 1.0]),
        (200, [1.0, 1.0]),
        (300, [2.0, 0.0]),
        (400, [3.0, -1.0]),
        (999, [3.0, -1.0]),
    ],
    ids=["before", "first point", "between", "on a point", "longer gap", "last point", "after"],
)
def test_a_sample_lies_on_the_line_between_its_neighbours(at_ns, expected):
    np.testing.assert_allclose(PLAN.sample(at_ns), expected)


def test_a_sample_is_a_copy():
    PLAN.sample(100)[0] = 9.0
    assert PLAN.positions[0, 0] == 0.0


def test_steps_after_counts_only_what_is_ahead():
    assert [PLAN.steps_after(at) for at in (0, 100, 150, 200, 400, 500)] == [3, 2, 2, 1, 0, 0]
    assert PLAN.end_ns == 400
