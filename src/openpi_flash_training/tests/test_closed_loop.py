"""The simulated closed loop: the expert succeeds in it, and delay costs what it should."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from openpi_flash_training.demonstrations.expert import SUBTASKS, intent, seen
from openpi_flash_training.evaluation.closed_loop import ClosedLoop
from openpi_flash_training.evaluation.conditions import (
    IGNORE_DELAY,
    METHODS,
    STOP_AND_GO,
    Conditions,
    Trial,
    grid,
    trials,
)
from openpi_flash_training.evaluation.measures import Share, cell_of
from openpi_flash_training.evaluation.motion_log import MotionLog
from openpi_flash_training.evaluation.policy import ExpertPolicy, Reply
from openpi_flash_training.evaluation.text_table import details
from openpi_flash_training.evaluation.virtual_network import MS, VirtualNetwork
from sim_robot.robot import CUBES
from sim_robot.tasks import TASKS, Outcome


@pytest.fixture(scope="module")
def loop():
    return ClosedLoop(ExpertPolicy())


def cell(loop, task, episodes, conditions, **more):
    return cell_of([loop.run(trial) for trial in trials(task, episodes, 7, conditions, **more)])


@pytest.mark.parametrize(("task", "episodes"), [("touch", 12), ("pick", 9), ("place", 6)])
def test_the_expert_succeeds_in_closed_loop(loop, task, episodes):
    found = cell(loop, task, episodes, Conditions(delay_ms=50))
    assert found.success.count == episodes
    assert all(share.count == episodes for share in found.stages.values())
    assert found.holds == 0


def test_every_chunk_method_plays_the_expert(loop):
    for method in METHODS:
        found = cell(loop, "touch", 3, Conditions(method, delay_ms=50))
        assert found.success.count == 3, method


def test_a_method_that_ignores_the_delay_is_worse_under_300_ms_and_one_that_does_not_is_not(loop):
    near = cell(loop, "pick", 6, Conditions(IGNORE_DELAY, 0))
    far = cell(loop, "pick", 6, Conditions(IGNORE_DELAY, 300))
    aware = cell(loop, "pick", 6, Conditions("latest", 300))
    assert far.seconds > 1.25 * near.seconds
    assert far.seconds > 1.25 * aware.seconds
    assert far.border_jerk > aware.border_jerk


def test_stopping_between_chunks_costs_time(loop):
    stops = cell(loop, "touch", 6, Conditions(STOP_AND_GO, 150))
    assert stops.seconds > 1.5 * cell(loop, "touch", 6, Conditions("latest", 150)).seconds
    assert math.isnan(stops.border_jerk)


def test_a_command_that_does_not_arrive_shakes_the_arm(loop):
    calm = cell(loop, "touch", 6, Conditions())
    shaken = cell(loop, "touch", 6, Conditions(held=0.3))
    assert shaken.rms_jerk > 2 * calm.rms_jerk


def test_the_same_trial_gives_the_same_result_and_other_seeds_others(loop):
    trial = trials("pick", 1, 7, Conditions("latest", 150, loss=0.3, held=0.2))[0]
    assert loop.run(trial) == ClosedLoop(ExpertPolicy()).run(trial)
    assert loop.run(replace(trial, seed=8)).rms_jerk != loop.run(trial).rms_jerk


def test_swapped_prompts_send_the_arm_to_the_next_colour_from_the_same_starts(loop):
    found = cell(loop, "touch", 6, Conditions(), is_swapped=True)
    assert found.success.count == 6
    assert found.plain_cube.count == 0
    swapped = trials("touch", 3, 7, Conditions(), is_swapped=True)
    assert [trial.cube for trial in swapped] == [CUBES[1], CUBES[2], CUBES[0]]
    assert [trial.plain_cube for trial in swapped] == list(CUBES)


class Lazy(ExpertPolicy):
    """Does what the prompt of another colour asks for."""

    def answer(self, query):
        return super().answer(replace(query, prompt="touch the red cube"))


def test_a_policy_that_reads_no_prompt_is_found_out():
    found = cell(ClosedLoop(Lazy()), "touch", 6, Conditions())
    assert found.success.count == 2
    assert found.confusion == ((2, 0, 0, 0), (2, 0, 0, 0), (2, 0, 0, 0))
    assert found.plain_cube.count == 2


class Idle(ExpertPolicy):
    """Stays where it is."""

    def answer(self, query):
        return Reply(np.tile(query.joints, (10, 1)))


def test_an_arm_that_does_nothing_has_chosen_nothing_when_the_time_is_up():
    result = ClosedLoop(Idle()).run(trials("touch", 1, 7, Conditions())[0])
    assert (result.outcome, result.chosen, result.seconds) == (Outcome.RUNNING, None, 8.0)
    assert cell_of([result]).confusion[0] == (0, 0, 0, 1)


class Talker(ExpertPolicy):
    """Says what it is about; or one thing for ever."""

    def __init__(self, words=None):
        super().__init__()
        self._words = words

    def answer(self, query):
        cube = next(cube for cube in CUBES if TASKS[query.task].prompt(cube) == query.prompt)
        stage = intent(TASKS[query.task], cube, seen(query.scene)).stage
        return replace(super().answer(query), subtask=self._words or SUBTASKS[stage])


def test_a_planner_is_compared_with_the_stage_of_the_expert():
    right = cell(ClosedLoop(Talker()), "pick", 2, Conditions())
    assert right.subtasks.total > 10
    assert right.subtasks.value == 1
    fixed = cell(ClosedLoop(Talker("grasp the cube")), "pick", 2, Conditions())
    assert 0 < fixed.subtasks.value < 0.7
    lines = details(right)
    assert f"subtasks agree      {right.subtasks}" in lines


def test_without_a_planner_no_subtask_is_counted():
    found = cell(ClosedLoop(ExpertPolicy()), "touch", 1, Conditions())
    assert found.subtasks.total == 0
    assert not any(line.startswith("subtasks") for line in details(found))


def test_the_network_takes_its_delay_and_a_round_trip_more_for_each_loss():
    def mean_ms(conditions):
        network = VirtualNetwork(conditions, np.random.default_rng(1))
        return np.mean([network.exchange_ns() for _ in range(4000)]) / MS

    assert mean_ms(Conditions(delay_ms=100, inference_ms=30)) == 130
    # each of two messages is sent 1 / (1 - p) times in the mean
    lossy = mean_ms(Conditions(delay_ms=100, inference_ms=30, loss=0.2))
    assert lossy == pytest.approx(130 + 2 * 0.25 * 100, rel=0.03)
    near = mean_ms(Conditions(delay_ms=0, inference_ms=0, loss=0.2))
    assert near == pytest.approx(2 * 0.25 * 25, rel=0.1)


def test_a_grid_has_every_combination_and_bad_conditions_are_refused():
    cells = list(grid(["latest", "rtc"], [0, 50], [0, 0.1], [0], inference_ms=20, execution_s=0.4))
    assert len(set(cells)) == 8
    with pytest.raises(ValueError, match="'fastest' is not one of latest, open_loop"):
        Conditions("fastest")
    with pytest.raises(ValueError, match="loss is 1.5, expected 0 to less than 1"):
        Conditions(loss=1.5)


def test_wilsons_interval_is_that_of_the_textbook():
    assert Share(9, 10).interval == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert Share(0, 20).interval == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert Share(100, 100).interval == pytest.approx((0.9630, 1.0), abs=1e-4)
    assert Share(0, 0).interval == (0.0, 1.0)


def test_jerk_is_that_of_the_commands_and_borders_are_told_apart():
    log = MotionLog(0.02)
    for index in range(100):
        if index == 50:
            log.border()
        log.command(np.array([0.0 if index < 50 else 0.02]))
    jerk, at_border = log.jerks()
    assert at_border > 2 * jerk > 0
    assert np.isnan(MotionLog(0.02).jerks()).all()


def test_trials_take_turns_in_colours_and_film_the_first():
    found = trials("pick", 4, 3, Conditions(), filmed=2)
    assert [trial.cube for trial in found] == [*CUBES, CUBES[0]]
    assert [trial.is_filmed for trial in found] == [True, True, False, False]
    assert isinstance(found[0], Trial)
