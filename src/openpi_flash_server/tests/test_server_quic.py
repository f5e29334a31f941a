"""QUIC in front of a slot, spoken by `FlashTransportPolicy`."""

import contextlib
import re
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from served_slot import QuicServer, wait_until
from server_fakes import SPEC, WAIT, FakePolicy, open_with

from flash_transport import (
    AuthenticationFailed,
    FlashTransportError,
    FlashTransportPolicy,
    ServerError,
    Superseded,
    Timeout,
)
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.serving.metadata import action_metadata
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.transports.certificate import KeptCertificate
from openpi_flash_server.transports.quic import QuicTransport


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(policy=None, **options):
        servers.append(QuicServer(tmp_path, policy or FakePolicy(), **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_a_client_gets_metadata_actions_and_timing(serve):
    with serve().connect() as client:
        metadata = client.get_server_metadata()
        first = client.infer({"state": np.array([1.5, 2.0]), "observation_stamp": 7}, timeout=WAIT)
        second = client.infer({"state": np.array([3.0, 4.0])}, timeout=WAIT)
    assert metadata["reset_pose"] == [0.5, -0.5]
    assert metadata["protocol"] == "openpi-flash/1"
    assert first["actions"].dtype == np.float64
    assert first["actions"].tolist() == [[1.5, 2.0]] * 3
    assert second["actions"].tolist() == [[3.0, 4.0]] * 3
    assert first["observation_stamp"] == 7
    assert set(first["server_timing"]) == {"infer_ms", "queue_ms", "decode_ms", "batch_size"}
    assert set(second["server_timing"]) == {*first["server_timing"], "prev_total_ms"}
    assert (first["sequence"], second["sequence"]) == (1, 2)


BAD_OBSERVATIONS = [
    ({}, "state: missing, expected float32 [2]"),
    ({"state": np.zeros(9)}, "state: expected shape [2], got [9]"),
    (
        {"state": np.zeros(2), "mode": "dance"},
        "mode: expected default, action_only, subtask_only, got 'dance'",
    ),
    (
        {"state": np.zeros(2), "mode": "subtask_only"},
        "mode: subtask_only needs a planner, and this server has none",
    ),
    (
        {"state": np.zeros(2), "deadline_ms": -1},
        "deadline_ms: expected a number above 0, got -1",
    ),
]


@pytest.mark.parametrize(("observation", "message"), BAD_OBSERVATIONS)
def test_a_bad_request_is_told_what_is_wrong_and_the_connection_goes_on(
    serve, observation, message
):
    with serve().connect() as client:
        with pytest.raises(ServerError) as refused:
            client.infer(observation, timeout=WAIT)
        assert (refused.value.code, refused.value.message) == ("bad_request", message)
        assert client.infer({"state": np.zeros(2)}, timeout=WAIT)["actions"].shape == (3, 2)


def test_a_policy_that_fails_is_internal_without_a_traceback(serve, caplog):
    with serve().connect() as client:
        with pytest.raises(ServerError) as failed:
            client.infer({"state": np.zeros(2), "explode": "now"}, timeout=WAIT)
        assert client.infer({"state": np.zeros(2)}, timeout=WAIT)["actions"].shape == (3, 2)
    assert failed.value.code == "internal"
    assert failed.value.message == "RuntimeError: the model exploded: now"
    assert "Traceback" in caplog.text


def test_several_clients_are_served_at_once_and_one_after_the_other(serve, in_background):
    server = serve(FakePolicy(gate=threading.Event()))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(4)]
        answers = [
            in_background(client.infer, {"state": np.full(2, float(number))}, WAIT)
            for number, client in enumerate(clients)
        ]
        assert server.policy.entered.acquire(timeout=WAIT)
        with server.connect() as late:
            assert late.get_server_metadata()["robot"] == "two_joints"
        server.policy.gate.set()
        for number, answer in enumerate(answers):
            assert answer.result(WAIT)["actions"][0, 0] == number
    assert server.policy.most_running == 1


def test_a_newer_observation_of_a_session_supersedes_the_one_that_waits(serve, in_background):
    server = serve(FakePolicy(gate=threading.Event()))
    with contextlib.ExitStack() as stack:
        blocker, older, newer = (
            stack.enter_context(server.connect(session=session))
            for session in ("other", "arm", "arm")
        )
        blocked = in_background(blocker.infer, {"state": np.zeros(2)}, WAIT)
        assert server.policy.entered.acquire(timeout=WAIT)
        superseded = in_background(older.infer, {"state": np.zeros(2)}, WAIT)
        server.wait_until_waiting(1)
        answered = in_background(newer.infer, {"state": np.ones(2)}, WAIT)
        with pytest.raises(Superseded):
            superseded.result(WAIT)
        server.policy.gate.set()
        assert blocked.result(WAIT)["actions"][0, 0] == 0
        assert answered.result(WAIT)["actions"][0, 0] == 1


def test_a_request_that_its_client_gave_up_is_not_run(serve, in_background):
    server = serve(FakePolicy(gate=threading.Event()))
    with server.connect() as blocker, server.connect() as impatient:
        blocked = in_background(blocker.infer, {"state": np.zeros(2)}, WAIT)
        assert server.policy.entered.acquire(timeout=WAIT)
        given_up = in_background(impatient.infer, {"state": np.full(2, 9.0)}, 0.5)
        server.wait_until_waiting(1)
        with pytest.raises(Timeout):
            given_up.result(WAIT)
        wait_until(lambda: server.slot.waiting == 0)
        server.policy.gate.set()
        blocked.result(WAIT)
        impatient.infer({"state": np.ones(2)}, timeout=WAIT)
    assert [seen["state"][0] for seen in server.policy.seen] == [0.0, 1.0]


KILLED_CLIENT = """
import sys
from flash_transport import FlashTransportPolicy
import numpy as np
FlashTransportPolicy("127.0.0.1", int(sys.argv[1])).infer({"state": np.full(2, 9.0)})
"""


def test_the_turn_of_a_client_that_is_killed_goes_to_the_next_one(serve, in_background):
    server = serve(FakePolicy(gate=threading.Event()))
    with server.connect() as blocker, server.connect() as other:
        blocked = in_background(blocker.infer, {"state": np.zeros(2)}, WAIT)
        assert server.policy.entered.acquire(timeout=WAIT)
        killed = subprocess.Popen([sys.executable, "-c", KILLED_CLIENT, str(server.port)])
        server.wait_until_waiting(1)
        killed.kill()
        killed.wait()
        wait_until(lambda: server.slot.waiting == 0)
        answered = in_background(other.infer, {"state": np.ones(2)}, WAIT)
        server.policy.gate.set()
        blocked.result(WAIT)
        answered.result(WAIT)
    assert [seen["state"][0] for seen in server.policy.seen] == [0.0, 1.0]


def test_reset_is_answered(serve):
    with serve().connect() as client:
        client.reset()
        assert client.infer({"state": np.zeros(2)}, timeout=WAIT)["actions"].shape == (3, 2)


def test_garbage_on_the_port_hurts_nobody(serve):
    server = serve()
    with socket.socket(type=socket.SOCK_DGRAM) as garbage:
        for data in (b"", b"\x00" * 1200, b"\xff" * 1400, b"GET / HTTP/1.1\r\n\r\n"):
            garbage.sendto(data, ("127.0.0.1", server.port))
    with server.connect() as client:
        assert client.infer({"state": np.zeros(2)}, timeout=WAIT)["actions"].shape == (3, 2)


def test_keys_of_the_configuration_let_in_and_others_do_not(serve):
    server = serve(api_keys=["s3cret"])
    for options in ({}, {"api_key": "wrong"}):
        with pytest.raises(AuthenticationFailed), server.connect(**options) as client:
            client.infer({"state": np.zeros(2)}, timeout=WAIT)
    with server.connect(api_key="s3cret") as client:
        assert client.infer({"state": np.zeros(2)}, timeout=WAIT)["actions"].shape == (3, 2)


def test_closing_lets_the_running_answer_out(serve, tmp_path, in_background):
    server = QuicServer(tmp_path, FakePolicy(gate=threading.Event()))
    with server.connect() as client:
        answer = in_background(client.infer, {"state": np.ones(2)}, WAIT)
        assert server.policy.entered.acquire(timeout=WAIT)
        closing = in_background(server.close)
        assert answer.result(WAIT)["actions"].shape == (3, 2)
        closing.result(WAIT)
        with pytest.raises(FlashTransportError):
            client.infer({"state": np.ones(2)}, timeout=0.2)


def test_a_port_in_use_is_an_error_of_the_constructor(tmp_path):
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            QuicTransport(
                Slot("action"), host="127.0.0.1", port=port, certificate=KeptCertificate(tmp_path)
            )


def test_before_it_is_published_clients_wait_and_come_in_when_it_is(tmp_path, in_background):
    slot = Slot("action")
    transport = QuicTransport(slot, host="127.0.0.1", port=0, certificate=KeptCertificate(tmp_path))
    assert re.fullmatch("[0-9a-f]{64}", transport.fingerprint)
    with (
        FlashTransportPolicy("127.0.0.1", transport.port, connect_timeout=0.3) as client,
        pytest.raises(ServerError, match="not_ready: the server warms up"),
    ):
        client.get_server_metadata()
    with FlashTransportPolicy("127.0.0.1", transport.port) as client:
        answer = in_background(client.infer, {"state": np.zeros(2)}, WAIT)
        assert not answer.done()
        open_with(slot, ActionHandler(FakePolicy()))
        transport.publish(action_metadata(SPEC, has_planner=False))
        assert answer.result(WAIT)["actions"].shape == (3, 2)
    assert slot.close(grace=WAIT)
    assert transport.close(grace=WAIT)
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", transport.port))


def test_closing_answers_what_waits_for_its_turn_too(tmp_path, in_background):
    server = QuicServer(tmp_path, FakePolicy(gate=threading.Event()))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(3)]
        answers = [
            in_background(client.infer, {"state": np.full(2, float(number))}, WAIT)
            for number, client in enumerate(clients)
        ]
        assert server.policy.entered.acquire(timeout=WAIT)
        server.wait_until_waiting(2)
        server.transport.stop_accepting()
        closing = in_background(server.close)
        for number, answer in enumerate(answers):
            assert answer.result(WAIT)["actions"][0, 0] == number
        closing.result(WAIT)


def test_a_dedicated_link_is_one_of_the_servers_settings(serve):
    assert serve(dedicated_link=True).transport.link_settings["dedicated_link"]
    assert not serve().transport.link_settings["dedicated_link"]


def test_of_submitted_observations_the_running_and_the_newest_are_answered(serve):
    server = serve(FakePolicy(gate=threading.Event()))
    with server.connect() as client:
        running = client.submit({"state": np.full(2, 1.0)}, WAIT)
        assert server.policy.entered.acquire(timeout=WAIT)
        waiting = client.submit({"state": np.full(2, 2.0)}, WAIT)
        newest = client.submit({"state": np.full(2, 3.0)}, WAIT)
        with pytest.raises(Superseded):
            waiting.result(WAIT)
        server.policy.gate.set()
        assert running.result(WAIT)["actions"][0, 0] == 1.0
        assert newest.result(WAIT)["actions"][0, 0] == 3.0
        assert newest.stats.bytes_up > 0
    assert [seen["state"][0] for seen in server.policy.seen] == [1.0, 3.0]


def test_a_submitted_observation_that_times_out_or_is_cancelled_is_never_run(serve):
    server = serve(FakePolicy(gate=threading.Event()))
    with server.connect() as client:
        running = client.submit({"state": np.zeros(2)}, WAIT)
        assert server.policy.entered.acquire(timeout=WAIT)
        late = client.submit({"state": np.ones(2), "session": "late"}, 0.1)
        unwanted = client.submit({"state": np.ones(2), "session": "unwanted"})
        assert unwanted.cancel()
        with pytest.raises(Timeout):
            late.result(WAIT)
        # each of them tells the server, which may take a moment to hear it; the server may have
        # refused the late one at its deadline before

        def heard_both():
            cancelled = server.transport.counters["requests_cancelled"]
            return cancelled == 2 or (cancelled == 1 and server.slot.waiting <= 1)

        wait_until(heard_both)
        server.policy.gate.set()
        running.result(WAIT)
        # comes after both, and has its turn when they have had none
        client.submit({"state": np.full(2, 7.0), "session": "last"}, WAIT).result(WAIT)
    assert [seen["state"][0] for seen in server.policy.seen] == [0.0, 7.0]
