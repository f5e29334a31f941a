"""Observations of several sessions, or of one request, in one call of the policy."""

import threading

import hypothesis
import numpy as np
import pytest
from message_strategies import OUR_KEYS, VALUES
from served_slot import wait_until
from server_fakes import (
    CLIENT,
    WAIT,
    FakeBatchPolicy,
    FakePlanner,
    Inbox,
    logged_slot,
    open_with,
)
from slot_pair import Pair

from flash_transport import FlashTransportPolicy, ServerError, WebsocketPolicy, jpeg_message
from openpi_flash_models.errors import ObservationError
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.serving.metadata import action_metadata
from openpi_flash_server.slot.answer import ErrorCode
from openpi_flash_server.slot.batch_request import parse_works
from openpi_flash_server.slot.client import Client
from openpi_flash_server.transports.certificate import KeptCertificate
from openpi_flash_server.transports.quic import QuicTransport
from openpi_flash_server.transports.websocket.listener import WebsocketTransport


def send(slot, message, *, session="robot", client=CLIENT):
    inbox = Inbox()
    slot.receive(
        lambda: message,
        client=client,
        session=session,
        respond=inbox,
        is_cancelled=lambda: False,
    )
    return inbox


@pytest.fixture
def held():
    """A slot whose device is busy with a first request until the test opens the gate."""
    policy, slot = FakeBatchPolicy(gate=threading.Event()), logged_slot()
    open_with(slot, ActionHandler(policy))
    first = send(slot, {"state": np.zeros(2)}, session="first")
    assert policy.entered.acquire(timeout=WAIT)
    yield policy, slot
    policy.gate.set()
    first.wait()
    assert slot.close(grace=WAIT)


def test_requests_of_several_sessions_share_a_call_and_each_gets_its_own_answer(held):
    policy, slot = held
    inboxes = [
        send(slot, {"state": np.full(2, number), "observation_stamp": number}, session=f"r{number}")
        for number in range(5)
    ]
    policy.gate.set()
    for number, inbox in enumerate(inboxes):
        result = inbox.wait().result
        assert result["actions"].tolist() == [[number, number]] * 3
        assert result["observation_stamp"] == number
        assert result["server_timing"]["batch_size"] == 5
    assert policy.sizes == [1, 5]


def test_a_bad_request_in_a_batch_harms_no_other(held):
    policy, slot = held
    good = send(slot, {"state": np.ones(2)}, session="good")
    bad = send(slot, {"state": np.ones(5)}, session="bad")
    broken = send(slot, {"state": np.ones(2), "image": {"__image__": "png"}}, session="broken")
    policy.gate.set()
    assert bad.wait().message == "state: expected shape [2], got [5]"
    assert broken.wait().code is ErrorCode.BAD_REQUEST
    assert good.wait().result["actions"].shape == (3, 2)
    assert policy.sizes == [1, 2]


def test_requests_for_different_programs_do_not_share_a_call(held):
    policy, slot = held
    inboxes = [
        send(slot, {"state": np.ones(2), "num_steps": steps}, session=f"{steps}-{number}")
        for number in range(2)
        for steps in (4, 10)
    ]
    policy.gate.set()
    for inbox in inboxes:
        inbox.wait()
    assert policy.sizes == [1, 2, 2]


def test_a_batch_beside_a_planner_is_planned_one_by_one_and_acted_on_at_once():
    policy, planner = FakeBatchPolicy(gate=threading.Event()), FakePlanner()
    pair = Pair(policy, planner)
    try:
        inboxes = [pair.send(pair.action_slot, {"prompt": "hold"}, session="first")]
        assert policy.entered.acquire(timeout=WAIT)
        messages = [
            {"prompt": "wipe"},
            {"prompt": "wipe", "mode": "action_only"},
            {"prompt": "fold"},
            {"prompt": "plan", "mode": "subtask_only"},
            {},
        ]
        for number, message in enumerate(messages):
            inboxes.append(pair.send(pair.action_slot, message, session=f"r{number}"))
        # all of them wait for the action's thread, none for the planner
        wait_until(lambda: len(planner.prompts) == 4 and not len(pair.planner_slot._runs))
        policy.gate.set()
        _, wipe, only_action, fold, only_plan, bad = (inbox.wait() for inbox in inboxes)
    finally:
        policy.gate.set()
        pair.close()
    assert policy.sizes == [1, 3]
    assert wipe.result["subtask"]["text"] == "step 2 of wipe"
    assert fold.result["subtask"]["text"] == "step 3 of fold"
    assert "subtask" not in only_action.result
    assert "actions" not in only_plan.result
    assert bad.message.startswith("prompt: missing")
    assert [seen["prompt"] for seen in policy.seen[1:]] == [
        "wipe. Subtask: step 2 of wipe",
        "wipe",
        "fold. Subtask: step 3 of fold",
    ]


@pytest.fixture(params=["quic", "websocket"])
def client_of_eight(request, tmp_path):
    """A client of a policy that takes eight observations at a time, and the policy."""
    policy, slot = FakeBatchPolicy(), logged_slot()
    if request.param == "quic":
        transport = QuicTransport(
            slot, host="127.0.0.1", port=0, certificate=KeptCertificate(tmp_path)
        )
        connect = FlashTransportPolicy
    else:
        transport = WebsocketTransport(slot, host="127.0.0.1", port=0)
        connect = WebsocketPolicy
    open_with(slot, ActionHandler(policy))
    transport.publish(action_metadata(policy.spec, has_planner=False))
    try:
        with connect("127.0.0.1", transport.port) as client:
            yield client, policy
    finally:
        slot.close(grace=WAIT)
        transport.close(grace=WAIT)


def test_a_batch_of_observations_is_answered_as_that_many_requests(client_of_eight):
    client, policy = client_of_eight
    states = np.arange(40.0).reshape(20, 2)
    prompts = [f"task {number}" for number in range(20)]
    answer = client.infer(
        {"batch": 20, "state": states, "prompt": prompts, "seed": 7, "observation_stamp": [1, 2]},
        timeout=WAIT,
    )
    single = [
        client.infer({"state": state, "prompt": prompt, "seed": 7}, timeout=WAIT)["actions"]
        for state, prompt in zip(states, prompts, strict=True)
    ]
    assert answer["actions"].shape == (20, 3, 2)
    np.testing.assert_array_equal(answer["actions"], np.stack(single))
    assert answer["observation_stamp"] == [1, 2]
    assert answer["policy_timing"] == [{"infer_ms": 1.25}] * 20
    assert answer["server_timing"]["batch_size"] == 8
    assert policy.sizes[:3] == [8, 8, 4]
    assert [seen["prompt"] for seen in policy.seen[:20]] == prompts
    assert {controls.seed for controls in policy.controls} == {7}


def test_a_batch_of_one_keeps_its_axis(client_of_eight):
    client, _ = client_of_eight
    answer = client.infer({"batch": 1, "state": np.ones((1, 2))}, timeout=WAIT)
    assert answer["actions"].shape == (1, 3, 2)


def test_images_of_a_batch_may_be_encoded(client_of_eight):
    client, policy = client_of_eight
    image = np.full((48, 64, 3), 128, np.uint8)
    client.infer(
        {
            "batch": 3,
            "state": np.ones((3, 2)),
            "images": {"scene": [jpeg_message(image)] * 3, "wrist": np.stack([image] * 3)},
        },
        timeout=WAIT,
    )
    assert {seen["images"]["scene"].shape for seen in policy.seen} == {(48, 64, 3)}
    assert {seen["images"]["wrist"].shape for seen in policy.seen} == {(48, 64, 3)}


def test_one_bad_observation_fails_its_request_and_is_named(client_of_eight):
    client, _ = client_of_eight
    with pytest.raises(ServerError) as failed:
        client.infer({"batch": 2, "state": [np.ones(2), np.ones(3)]}, timeout=WAIT)
    assert failed.value.message == "observation 1 of 2: state: expected shape [2], got [3]"
    client.infer({"batch": 2, "state": np.ones((2, 2))}, timeout=WAIT)


def test_a_robot_comes_between_the_parts_of_a_large_request(held):
    policy, slot = held
    simulator = send(
        slot,
        {"batch": 24, "state": np.zeros((24, 2)), "request_class": "evaluation"},
        session="sim",
        client=Client("10.0.0.7:1#2", "10.0.0.7"),
    )
    robot = send(slot, {"state": np.ones(2)})
    policy.gate.set()
    robot.wait()
    simulator.wait()
    assert policy.sizes == [1, 1, 8, 8, 8]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"batch": 0}, "batch: expected a whole number from 1 to 512, got 0"),
        ({"batch": True}, "batch: expected a whole number from 1 to 512, got True"),
        ({"batch": "2"}, "batch: expected a whole number from 1 to 512, got '2'"),
        ({"batch": 10**9}, "batch: expected a whole number from 1 to 512, got 1000000000"),
        (
            {"batch": 2, "images": {"scene": np.zeros((3, 4))}},
            "images/scene: expected [2, ...] for a batch of 2, got [3, 4]",
        ),
        ({"batch": 2, "prompt": ["a"]}, "prompt: expected 2 entries for a batch of 2, got 1"),
        ({"batch": 2, "seed": [1, -1]}, "seed: expected a whole number from 0, got -1"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_by_the_name_of_its_key(message, error):
    with pytest.raises(ObservationError) as refused:
        parse_works(message, session="robot")
    assert str(refused.value) == error


def test_the_previous_chunks_of_a_batch_are_split_too():
    rtc = {"previous_actions": np.arange(12.0).reshape(2, 3, 2), "delay": 1}
    works, is_batch = parse_works({"batch": 2, "rtc": rtc}, session="robot")
    assert is_batch
    assert [work.controls.rtc.previous_actions[0, 0] for work in works] == [0.0, 6.0]
    assert [work.controls.rtc.delay for work in works] == [1, 1]


@hypothesis.given(VALUES | hypothesis.strategies.dictionaries(OUR_KEYS, VALUES))
def test_whatever_a_batch_holds_becomes_works_or_a_refusal(message):
    if isinstance(message, dict):
        message = {**message, "batch": 2}
    refusal = ""
    works = [None] * 2
    try:
        works, _ = parse_works(message, session="robot")
    except ObservationError as error:
        refusal = str(error)
    assert len(works) == 2
    assert len(refusal) < 300
