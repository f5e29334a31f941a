"""Which step of which chunk is handed out, without any server."""

import numpy as np
import pytest

from flash_transport.open_loop import OpenLoop, horizon_from


def chunk(length=4, **others):
    return {"actions": np.arange(2.0 * length).reshape(length, 2), **others}


def fetch(loop, answer, observation=None, action_horizon=None):
    question = loop.ask({} if observation is None else observation)
    return loop.first_step(question, answer, action_horizon)


def first_actions(loop, **observation):
    step = loop.step(observation)
    return None if step is None else step["actions"].tolist()


def test_the_steps_of_a_chunk_come_in_order_and_then_the_server_is_asked():
    loop = OpenLoop(3)
    assert loop.step({}) is None
    assert fetch(loop, chunk())["actions"].tolist() == [0, 1]
    assert first_actions(loop) == [2, 3]
    assert first_actions(loop) == [4, 5]
    assert loop.step({}) is None


def test_a_horizon_beyond_the_chunk_ends_with_the_chunk():
    loop = OpenLoop(100)
    fetch(loop, chunk(length=2))
    assert first_actions(loop) == [2, 3]
    assert loop.step({}) is None


def test_a_horizon_of_one_keeps_nothing():
    loop = OpenLoop(1)
    assert fetch(loop, chunk())["actions"].tolist() == [0, 1]
    assert loop.step({}) is None


def test_only_arrays_as_long_as_the_chunk_are_taken_apart():
    answer = chunk(
        state=np.zeros(3),
        nested={"values": np.arange(4), "list": [np.arange(8).reshape(4, 2), "text"]},
        policy_timing={"infer_ms": 12.0},
        scalar=np.float32(1.5),
        zero_d=np.array(7),
    )
    loop = OpenLoop(4)
    fetch(loop, answer)
    step = loop.step({})
    assert step["actions"].shape == (2,)
    assert step["state"].shape == (3,)
    assert step["nested"]["values"] == 1
    assert step["nested"]["list"][0].tolist() == [2, 3]
    assert step["nested"]["list"][1] == "text"
    assert step["policy_timing"] == {"infer_ms": 12.0}
    assert (step["scalar"], step["zero_d"]) == (1.5, 7)


def test_the_metadatas_horizon_counts_where_actions_are_not_a_table():
    loop = OpenLoop(4)
    assert fetch(loop, {"actions": np.arange(4)}, action_horizon=4)["actions"] == 0
    assert loop.step({})["actions"] == 1


def test_the_actions_themselves_are_believed_before_the_metadata():
    loop = OpenLoop(4)
    fetch(loop, chunk(length=2), action_horizon=4)
    assert first_actions(loop) == [2, 3]
    assert loop.step({}) is None


@pytest.mark.parametrize(
    "answer", [{"subtask": {"text": "grasp"}}, {"actions": np.zeros(7)}, {"actions": [1, 2]}, {}]
)
def test_an_answer_without_a_chunk_is_handed_out_as_it_is(answer):
    loop = OpenLoop(4)
    assert fetch(loop, answer, action_horizon=4) is answer
    assert loop.step({}) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "open the drawer"},
        {"prompt": "fold", "mode": "action_only"},
        {"prompt": "fold", "session": "other"},
        {},
    ],
)
def test_another_intent_asks_the_server(changed):
    loop = OpenLoop(4)
    fetch(loop, chunk(), {"prompt": "fold"})
    assert loop.step(changed) is None
    assert first_actions(loop, prompt="fold") == [2, 3]


def test_other_pixels_do_not_ask_the_server():
    loop = OpenLoop(4)
    fetch(loop, chunk(), {"prompt": np.array("fold"), "image": np.zeros(3)})
    assert first_actions(loop, prompt=np.array("fold"), image=np.ones(3)) == [2, 3]


def test_forgetting_asks_the_server():
    loop = OpenLoop(4)
    fetch(loop, chunk())
    loop.forget()
    assert loop.step({}) is None


def test_an_answer_to_a_question_from_before_a_reset_is_not_kept():
    loop = OpenLoop(4)
    question = loop.ask({})
    loop.forget()
    assert loop.first_step(question, chunk(), None)["actions"].tolist() == [0, 1]
    assert loop.step({}) is None


def test_a_late_answer_does_not_replace_a_newer_chunk():
    loop = OpenLoop(4)
    early, late = loop.ask({}), loop.ask({})
    loop.first_step(late, chunk(name="late"), None)
    loop.first_step(early, chunk(name="early"), None)
    assert loop.step({})["name"] == "late"


def test_what_a_caller_does_to_a_step_does_not_reach_the_next():
    loop = OpenLoop(4)
    first = fetch(loop, chunk(timing={"infer_ms": 1.0}))
    first["timing"]["infer_ms"] = 2.0
    del first["actions"]
    step = loop.step({})
    assert step["timing"] == {"infer_ms": 1.0}
    assert step["actions"].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("option", "environment", "horizon"),
    [
        (None, {}, None),
        (None, {"OPENPI_OPEN_LOOP_HORIZON": ""}, None),
        (None, {"OPENPI_OPEN_LOOP_HORIZON": " 8 "}, 8),
        (None, {"OPENPI_OPEN_LOOP_HORIZON": "0"}, None),
        (0, {"OPENPI_OPEN_LOOP_HORIZON": "8"}, None),
        (5, {"OPENPI_OPEN_LOOP_HORIZON": "8"}, 5),
        (np.int64(5), {}, 5),
        (5, {"OPENPI_OPEN_LOOP_HORIZON": "nonsense"}, 5),
    ],
)
def test_the_program_has_the_last_word_on_the_horizon(option, environment, horizon):
    assert horizon_from(option, environment) == horizon


@pytest.mark.parametrize("option", [-1, True, 2.5, "4"])
def test_an_option_that_is_no_number_of_steps_is_refused(option):
    with pytest.raises(ValueError, match="open_loop_horizon must be a whole number of steps"):
        horizon_from(option, {})


@pytest.mark.parametrize("text", ["-1", "2.5", "many"])
def test_an_environment_that_is_no_number_of_steps_is_refused(text):
    with pytest.raises(ValueError, match=f"OPENPI_OPEN_LOOP_HORIZON must be .* got '{text}'"):
        horizon_from(None, {"OPENPI_OPEN_LOOP_HORIZON": text})


def test_a_loop_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        OpenLoop(0)
