"""plan.py: which steps of a chunk are still ahead."""

import numpy as np

from openpi_flash_robot.play.motion import rest
from openpi_flash_robot.play.plan import Plan

PLAN = Plan(
    motion=rest(np.zeros(2), 50),
    due_ns=np.array([100, 200, 400]),
    step_ns=100,
    start_ns=100,
    first_step=0,
    observation_ns=50,
    sequence=3,
    limited_steps=0,
)


def test_steps_after_counts_only_what_is_ahead():
    assert [PLAN.steps_after(at) for at in (0, 100, 150, 200, 400, 500)] == [3, 2, 2, 1, 0, 0]


def test_it_ends_when_its_last_step_is_due():
    assert PLAN.end_ns == 400
