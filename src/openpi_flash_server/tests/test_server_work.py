"""What is taken out of a message, and what is refused."""

import pickle

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from message_strategies import OUR_KEYS, VALUES

from openpi_flash_models.errors import ObservationError
from openpi_flash_server.slot.work import RequestClass, RequestMode, parse_message


def parse(message, *, session="peer#1"):
    return parse_message(message, session=session)


def test_a_message_of_openpis_client_is_all_observation():
    message = {"state": np.zeros(2), "images": {"cam_high": np.zeros((3, 4, 4))}, "prompt": "fold"}
    request = parse(message)
    assert request.observation == message
    assert request.mode is RequestMode.DEFAULT
    assert request.session == "peer#1"
    assert (request.deadline_ms, request.observation_stamp) == (None, None)
    assert request.controls.noise is None
    assert request.controls.seed is None
    assert request.controls.num_steps is None


def test_our_keys_are_taken_out_of_the_observation():
    noise = np.ones((3, 2), np.float32)
    message = {
        "state": 1,
        "mode": "action_only",
        "session": "arm-7",
        "deadline_ms": 250,
        "request_class": "evaluation",
        "observation_stamp": {"sec": 5, "nanosec": 7},
        "seed": np.int64(3),
        "noise": noise,
        "num_steps": 5,
    }
    request = parse(message)
    assert request.observation == {"state": 1}
    assert request.mode is RequestMode.ACTION_ONLY
    assert request.session == "arm-7"
    assert request.deadline_ms == 250
    assert request.observation_stamp == {"sec": 5, "nanosec": 7}
    assert (request.controls.seed, request.controls.num_steps) == (3, 5)
    assert request.controls.noise is noise
    assert request.request_class is RequestClass.EVALUATION
    assert len(message) == 9, "the caller's message must stay as it is"


@pytest.mark.parametrize("value", [None, "", "default"])
def test_no_mode_is_the_default_mode(value):
    assert parse({"mode": value}).mode is RequestMode.DEFAULT


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ([1, 2], "observation: expected a map, got list"),
        (b"abc", "observation: expected a map, got bytes"),
        (None, "observation: expected a map, got NoneType"),
        ({"mode": "plan"}, "mode: expected default, action_only, subtask_only, got 'plan'"),
        ({"mode": ["default"]}, "mode: expected default, action_only, subtask_only, got list"),
        (
            {"mode": np.zeros(2)},
            "mode: expected default, action_only, subtask_only, got an array float64[2]",
        ),
        ({"mode": 0}, "mode: expected default, action_only, subtask_only, got 0"),
        ({"request_class": 1}, "request_class: expected robot, shadow, evaluation, got 1"),
        ({"session": 7}, "session: expected printable text of 1 to 128 characters, got 7"),
        ({"session": ""}, "session: expected printable text of 1 to 128 characters, got ''"),
        (
            {"session": "\0action slot"},
            "session: expected printable text of 1 to 128 characters, got '\\x00action slot'",
        ),
        (
            {"session": "x" * 1025},
            "session: expected printable text of 1 to 128 characters, got "
            "'" + "x" * 37 + "... (1025 characters) ..." + "x" * 18 + "'",
        ),
        ({"deadline_ms": 0}, "deadline_ms: expected a number above 0, got 0"),
        ({"deadline_ms": float("nan")}, "deadline_ms: expected a number above 0, got nan"),
        ({"deadline_ms": True}, "deadline_ms: expected a number above 0, got True"),
        ({"deadline_ms": "50"}, "deadline_ms: expected a number above 0, got '50'"),
        ({"seed": -1}, "seed: expected a whole number from 0, got -1"),
        ({"seed": 1.5}, "seed: expected a whole number from 0, got 1.5"),
        ({"seed": np.zeros(3)}, "seed: expected a whole number from 0, got an array float64[3]"),
        ({"num_steps": 0}, "num_steps: expected a whole number from 1, got 0"),
        ({"noise": [1.0]}, "noise: expected an array of numbers, got list"),
        ({"noise": np.array(["a"])}, "noise: expected an array of numbers, got an array <U1[1]"),
        ({"noise": np.array([np.inf])}, "noise: holds a value that is not finite"),
        ({"rtc": 3}, "rtc: expected a map, got 3"),
        ({"rtc": {}}, "rtc/previous_actions: expected numbers [n, D], got None"),
        (
            {"rtc": {"previous_actions": np.zeros(3), "delay": 1}},
            "rtc/previous_actions: expected numbers [n, D], got an array float64[3]",
        ),
        (
            {"rtc": {"previous_actions": np.zeros((3, 2))}},
            "rtc/delay: missing: steps played before the chunk arrives",
        ),
        (
            {"rtc": {"previous_actions": np.zeros((3, 2)), "delay": -1}},
            "rtc/delay: expected a whole number from 0, got -1",
        ),
        (
            {"rtc": {"previous_actions": np.zeros((3, 2)), "delay": 0, "method": np.zeros(3)}},
            "rtc/method: expected 'prefix' or none, got an array float64[3]",
        ),
        (
            {"rtc": {"previous_actions": np.zeros((3, 2)), "delay": 0, "beta": 1}},
            "rtc: no such key: 'beta', known are previous_actions, delay, "
            "execution_horizon, method",
        ),
    ],
)
def test_a_wrong_message_is_refused_by_the_name_of_its_key(message, error):
    with pytest.raises(ObservationError) as caught:
        parse(message)
    assert str(caught.value) == error


def test_the_chunk_that_is_being_played_reaches_the_policy():
    chunk = np.arange(6.0).reshape(3, 2)
    rtc = parse({"rtc": {"previous_actions": chunk, "delay": np.int64(2)}}).controls.rtc
    np.testing.assert_array_equal(rtc.previous_actions, chunk)
    assert (rtc.delay, rtc.execution_horizon, rtc.is_prefix) == (2, None, False)
    known = parse({"rtc": {"previous_actions": chunk, "delay": 2, "method": "prefix"}})
    assert known.controls.rtc.is_prefix


def test_work_travels_to_another_process():
    message = {
        "state": np.arange(2.0),
        "images": {"wrist": {"__image__": "jpeg", "data": b"..."}},
        "rtc": {"previous_actions": np.ones((3, 2)), "delay": 2},
        "deadline_ms": 30,
    }
    work = pickle.loads(pickle.dumps(parse(message)))
    assert work.observation["state"].tolist() == [0.0, 1.0]
    assert work.observation["images"] == message["images"]
    assert work.controls.rtc.delay == 2
    assert (work.session, work.deadline_ms) == ("peer#1", 30)


def test_the_transports_own_session_name_is_checked_too():
    with pytest.raises(ObservationError, match="session: expected printable text"):
        parse({}, session="\0action slot")


@hypothesis.given(VALUES | st.dictionaries(OUR_KEYS | st.text(max_size=5), VALUES))
def test_whatever_a_client_sends_becomes_a_request_or_a_refusal(message):
    refusal = ""
    try:
        request = parse(message)
    except ObservationError as error:
        refusal = str(error)
    else:
        assert request.session.isprintable()
        assert request.deadline_ms is None or request.deadline_ms > 0
    assert len(refusal) < 300
    assert "\n" not in refusal
