"""Success and stages, by states that nobody had to simulate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sim_robot.kinematics import Pose, joints_for
from sim_robot.robot import CUBES, PLATE
from sim_robot.scene_state import SceneState
from sim_robot.tasks import RESTING, TASKS, Outcome, Progress, holds, judge

AWAY = (*joints_for(Pose((0.3, 0.0, 0.25))), 0.0)
LYING = ((0.30, -0.10, RESTING), (0.38, 0.04, RESTING), (0.28, 0.10, RESTING))
START = SceneState(0.0, AWAY, LYING)


def folded(task, cube, *states):
    progress = Progress()
    for state in states:
        progress = judge(TASKS[task], cube, progress, state)
    return progress


def lifted(cube, height, time):
    cubes = tuple(
        (x, y, z + height if name == cube else z)
        for name, (x, y, z) in zip(CUBES, LYING, strict=True)
    )
    return SceneState(time, AWAY, cubes, frozenset({cube}), frozenset({cube}))


def test_the_prompt_names_the_cube():
    assert TASKS["touch"].prompt("red_cube") == "touch the red cube"
    assert TASKS["pick"].prompt("green_cube") == "pick up the green cube"
    assert TASKS["place"].prompt("blue_cube") == "put the blue cube on the plate"


def test_touching_the_named_cube_is_success_and_another_one_first_is_not():
    touches = replace(START, time=1.0, touched=frozenset({"red_cube"}))
    done = folded("touch", "red_cube", START, touches)
    assert done.outcome is Outcome.SUCCESS
    assert done.ended_at == 1.0
    assert done.reached_at == {"reach": 1.0, "touch": 1.0}
    wrong = folded("touch", "blue_cube", START, touches, replace(touches, time=2.0))
    assert wrong.outcome is Outcome.WRONG_CUBE
    assert wrong.chosen == "red_cube"
    assert wrong.ended_at == 1.0


def test_touching_two_cubes_at_once_counts_as_the_named_one():
    both = replace(START, touched=frozenset({"red_cube", "blue_cube"}))
    assert folded("touch", "blue_cube", both).outcome is Outcome.SUCCESS


def test_a_cube_must_be_held_up_for_a_second():
    states = [lifted("green_cube", 0.06, time / 10) for time in range(11)]
    assert folded("pick", "green_cube", *states[:-1]).outcome is Outcome.RUNNING
    assert folded("pick", "green_cube", *states).outcome is Outcome.SUCCESS
    dropped = replace(START, time=0.5)
    again = [*states[:5], dropped, *(replace(s, time=s.time + 0.6) for s in states[:-1])]
    assert folded("pick", "green_cube", *again).outcome is Outcome.RUNNING


def test_a_cube_that_is_lifted_less_than_5_cm_is_not_picked():
    states = [lifted("green_cube", 0.045, time / 10) for time in range(30)]
    progress = folded("pick", "green_cube", *states)
    assert progress.outcome is Outcome.RUNNING
    assert set(progress.reached_at) == {"reach", "close"}
    assert progress.chosen == "green_cube"


def test_lifting_another_cube_ends_the_episode():
    progress = folded("pick", "red_cube", START, lifted("blue_cube", 0.03, 1.0))
    assert progress.outcome is Outcome.WRONG_CUBE
    assert progress.chosen == "blue_cube"


def test_touching_another_cube_on_the_way_does_not_end_a_pick():
    grazed = replace(START, touched=frozenset({"red_cube"}))
    assert folded("pick", "blue_cube", grazed).outcome is Outcome.RUNNING


def test_a_cube_is_placed_when_it_lies_on_the_plate_and_is_let_go():
    there = (*LYING[:2], (*PLATE, 0.030))
    held = SceneState(0.0, AWAY, there, touched=frozenset({"blue_cube"}))
    held = replace(held, on_plate=frozenset({"blue_cube"}))
    free = replace(held, touched=frozenset())
    place = TASKS["place"]
    assert not holds(place, "place", "blue_cube", held)
    assert holds(place, "place", "blue_cube", free)
    assert not holds(place, "place", "blue_cube", replace(free, on_plate=frozenset()))
    assert folded("place", "blue_cube", free, replace(free, time=0.5)).outcome is Outcome.SUCCESS


def test_a_low_hand_beside_a_cube_has_reached_it_and_a_high_one_has_not():
    x, y, _ = LYING[1]
    low = replace(START, joints=(*joints_for(Pose((x + 0.02, y, 0.10))), 0.0))
    high = replace(START, joints=(*joints_for(Pose((x + 0.02, y, 0.20))), 0.0))
    assert holds(TASKS["pick"], "reach", "green_cube", low)
    assert not holds(TASKS["pick"], "reach", "green_cube", high)


def test_a_stage_of_another_task_is_an_error_that_names_those_there_are():
    with pytest.raises(ValueError, match="touch has no stage 'lunch', only reach, touch"):
        holds(TASKS["touch"], "lunch", "red_cube", START)
