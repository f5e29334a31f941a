"""answer.py: what comes back from the server, checked."""

import dataclasses
import math

import numpy as np
import pytest

from openpi_flash_robot.link.answer import AnswerError, PlannerSubtask, parse_answer, rtc_of
from openpi_flash_robot.play.splice.rtc import Continuation
from openpi_flash_robot.settings.action_meaning import ActionMeaning
from openpi_flash_robot.settings.axis_play import AxisPlay, Reading
from openpi_flash_robot.settings.server_contract import Agreement

AGREEMENT = Agreement(
    step_ns=20_000_000,
    columns=(2, 0, 1),
    column_count=3,
    axes=tuple(
        AxisPlay(ActionMeaning(name, "position", "rad"), Reading.ABSOLUTE) for name in "abc"
    ),
    horizon=4,
    images={},
    supports=frozenset(),
    model="",
    checkpoint="",
    warnings=(),
)
ACTIONS = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_actions_come_out_in_the_order_of_the_joints_as_float64():
    answer = parse_answer({"actions": ACTIONS}, AGREEMENT)
    assert answer.actions.dtype == np.float64
    np.testing.assert_array_equal(answer.actions, ACTIONS[:, [2, 0, 1]])
    assert answer.subtask is None
    assert math.isnan(answer.server_s)


def test_subtask_and_server_time_are_read_where_they_are():
    result = {
        "actions": ACTIONS,
        "subtask": {"text": "pick up the cube", "ms": 12.0, "age_ms": 250},
        "server_timing": {"infer_ms": 34.0},
    }
    answer = parse_answer(result, AGREEMENT)
    assert answer.subtask == PlannerSubtask("pick up the cube", age_ns=250_000_000)
    assert answer.server_s == pytest.approx(0.034)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"code": "internal", "message": "out of memory"}, "internal: out of memory"),
        ({"message": "out of memory"}, "out of memory"),
        ({}, "no reason given"),
        ("out of memory", "out of memory"),
        (None, ""),
    ],
)
def test_a_planners_error_is_read_whatever_its_shape(error, said):
    subtask = {"text": "", "ms": 1.0, "error": error}
    assert parse_answer({"actions": ACTIONS, "subtask": subtask}, AGREEMENT).planner_error == said
    assert parse_answer({"actions": ACTIONS, "subtask": {}}, AGREEMENT).planner_error == ""
    assert parse_answer({"actions": ACTIONS}, AGREEMENT).planner_error == ""


@pytest.mark.parametrize("subtask", [None, "words", {"ms": 1.0}, {"text": 3}])
def test_a_subtask_that_is_none_is_none(subtask):
    assert parse_answer({"actions": ACTIONS, "subtask": subtask}, AGREEMENT).subtask is None


@pytest.mark.parametrize("age", [None, -5.0, "old", math.nan])
def test_a_subtask_whose_age_makes_no_sense_is_new(age):
    result = {"actions": ACTIONS, "subtask": {"text": "go", "age_ms": age}}
    assert parse_answer(result, AGREEMENT).subtask == PlannerSubtask("go", age_ns=0)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([], "the answer is list, expected a map"),
        ({"error": 1, "policy": 2}, "the answer has no actions, only error, policy"),
        ({"actions": [[1.0]]}, "the actions are list, expected an array of numbers"),
        ({"actions": np.array([["a"]])}, "the actions are <U1, expected an array of numbers"),
        ({"actions": ACTIONS[:3]}, "the actions have shape [3, 3], expected [4, 3]"),
        ({"actions": ACTIONS[:, :2]}, "the actions have shape [4, 2], expected [4, 3]"),
        ({"actions": ACTIONS[0]}, "the actions have shape [3], expected [4, 3]"),
    ],
)
def test_an_answer_that_is_no_chunk_for_this_robot_is_refused_and_named(result, message):
    with pytest.raises(AnswerError) as error:
        parse_answer(result, AGREEMENT)
    assert str(error.value) == message


def test_without_a_horizon_from_the_server_any_number_of_steps_will_do(replace):
    agreement = replace(AGREEMENT, horizon=None)
    assert parse_answer({"actions": ACTIONS[:2]}, agreement).actions.shape == (2, 3)
    with pytest.raises(AnswerError, match=r"shape \[0, 3\], expected \[steps, 3\]"):
        parse_answer({"actions": ACTIONS[:0]}, agreement)


def test_the_running_chunk_is_told_in_the_servers_columns():
    said = rtc_of(Continuation(np.array([[1.0, 2.0, 3.0]]), 1, 10), AGREEMENT)
    # joints 0, 1, 2 are the server's columns 2, 0, 1
    assert said["previous_actions"].tolist() == [[2.0, 3.0, 1.0]]
    assert said["previous_actions"].dtype == np.float32
    assert (said["delay"], said["execution_horizon"]) == (1, 4)


@pytest.mark.parametrize("is_prefix", [False, True])
@pytest.mark.parametrize("supports", [["rtc"], ["rtc", "rtc_prefix"]])
def test_only_a_server_that_can_is_asked_to_take_played_steps_as_known(is_prefix, supports):
    agreement = dataclasses.replace(AGREEMENT, supports=frozenset(supports))
    continuation = Continuation(np.zeros((1, 3)), 1, 2, is_prefix=is_prefix)
    expected = "prefix" if is_prefix and "rtc_prefix" in supports else None
    assert rtc_of(continuation, agreement).get("method") == expected
