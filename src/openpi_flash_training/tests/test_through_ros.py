"""Episodes through the whole robot, as far as they can be told without one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from openpi_flash_robot.bridge.status import State
from openpi_flash_robot.run.settings_file import robot_settings
from openpi_flash_training.evaluation.conditions import Conditions, Trial
from openpi_flash_training.through_ros.course import Course
from openpi_flash_training.through_ros.expert_server import state_when
from openpi_flash_training.through_ros.node_parameters import method_parameters, node_parameters
from sim_robot.scene_report import SceneReport
from sim_robot.scene_state import SceneState
from sim_robot.tasks import Outcome, Progress

NODE_FILE = Path(__file__).parents[3] / "examples/sim_policy/node.yaml"
CUBES = ((0.3, 0.0, 0.024), (0.35, 0.1, 0.024), (0.35, -0.1, 0.024))
REAL = Conditions(inference_ms=0.0, is_real=True)


def report(time, *, progress=None, joints=(0.0,) * 7, episode=1, commanded=()):
    state = SceneState(time, joints, CUBES)
    return SceneReport(
        round(time * 1e9), state, episode, progress or Progress(), commanded=commanded
    )


def touched(at):
    return Progress({"touch": at}, "red_cube", None, Outcome.SUCCESS, at)


def a_course(began=0.5):
    return Course(Trial("touch", 0, 7, "red_cube", REAL), began)


def test_times_count_from_when_the_robot_was_let_go_not_from_the_start_s_first_picture():
    course = a_course(began=0.5)
    course.hear_state(State.RUNNING)
    course.hear_report(report(1.0))
    assert not course.is_over
    course.hear_report(report(2.0, progress=touched(1.9)))
    assert course.is_over
    result = course.result()
    assert result.is_success
    assert result.seconds == pytest.approx(1.4)
    assert result.reached_at == {"touch": pytest.approx(1.4)}


def test_an_episode_is_over_when_its_time_is_up():
    course = a_course(began=0.5)
    course.hear_report(report(8.4))
    assert not course.is_over
    course.hear_report(report(8.5))
    assert course.is_over
    assert course.result().seconds == 8.0
    assert course.result().outcome is Outcome.RUNNING


def test_a_robot_that_waits_for_a_person_has_failed_but_not_before_it_ran():
    course = a_course()
    course.hear_state(State.FAULT)
    assert not course.is_over
    course.hear_state(State.RUNNING)
    course.hear_state(State.FAULT)
    assert course.is_over
    assert not course.result().is_success


def test_holds_are_counted_once_however_often_they_are_said_and_not_after_the_end():
    course = a_course()
    for state in (State.HOLDING, State.RUNNING, State.HOLDING, State.HOLDING, State.RUNNING):
        course.hear_state(state)
    course.hear_report(report(2.0, progress=touched(1.9)))
    course.hear_state(State.HOLDING)
    assert course.result().holds == 1


def test_jerk_is_that_of_the_commands_and_borders_are_chunks_that_take_over():
    course = a_course()
    still, fast = (0.0,) * 6, (1.0, *(0.0,) * 5)
    course.hear_chunk()  # the first one takes over from nothing
    course.hear_state(State.RUNNING)
    course.hear_report(report(0.6, commanded=(still,) * 30))
    assert math.isnan(course.result().border_jerk)
    course.hear_chunk()
    course.hear_report(report(1.2, commanded=(fast,) * 30))
    result = course.result()
    assert result.requests == 2
    assert result.border_jerk > result.rms_jerk > 0.0


def test_the_expert_is_asked_about_the_moment_of_the_observation():
    rows = [report(t, joints=(t, *(0.0,) * 6)) for t in (0.0, 0.1, 0.2, 0.3)]
    assert state_when(rows, np.array([0.1001, *(0.0,) * 6])).time == 0.1
    # where the arm rests, the newest
    rested = [report(t) for t in (0.0, 0.1, 0.2)]
    assert state_when(rested, np.zeros(7)).time == 0.2
    # never of another episode
    rows.append(report(0.0, joints=(1.0, *(0.0,) * 6), episode=2))
    assert state_when(rows, np.array([0.1, *(0.0,) * 6])).joints[0] == 1.0
    with pytest.raises(ValueError, match="nothing is known of the scene"):
        state_when([], np.zeros(7))


def test_the_file_for_the_node_says_what_evaluations_play_with():
    said = yaml.safe_load(NODE_FILE.read_text())["/**"]["ros__parameters"]
    assert said.pop("dry_run") is True
    assert said.pop("prompt") == "touch the red cube"
    assert said.pop("transport") == "quic"
    ours = node_parameters() | method_parameters(REAL, 10, 100_000_000)
    for name in ("dry_run", "autostart", "control_rate_hz"):
        ours.pop(name)
    assert said == ours


def test_chunks_are_played_as_conditions_say():
    given = Conditions(method="rtc", execution_s=0.3, is_real=True)
    assert method_parameters(given, 50, 40_000_000) == {
        "chunk_method": "rtc",
        "execution_horizon": 8,
        "max_chunk_age": 2.0,
    }
    assert "max_chunk_age" not in method_parameters(given, None, 40_000_000)
    settings = robot_settings(**node_parameters(25.0))
    assert settings.control_period_ns == 40_000_000
