"""A session belongs to the API key that it came with, also if another client knows its name."""

import contextlib
import threading

import numpy as np
import pytest
from served_slot import QuicServer, UnixServer, WebsocketServer, wait_until
from server_fakes import WAIT, FakePolicy

from flash_transport import ServerError, Superseded
from openpi_flash_models.errors import ObservationError
from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.session import owned_name, session_name

KEYS = ["first-key", "second-key"]

REFUSED_WITHIN = 2.0
"""s; an answer that takes longer would be a timeout instead of a refusal."""


@pytest.fixture(params=["quic", "websocket", "unix"])
def serve(request, tmp_path):
    """`serve()` is a server with two keys, and how to connect with one of them."""
    servers = []

    def start():
        policy = FakePolicy(gate=threading.Event())
        if request.param == "quic":
            server = QuicServer(tmp_path / "state", policy, api_keys=KEYS)
        elif request.param == "unix":
            server = UnixServer(policy, api_keys=KEYS)
        else:
            server = WebsocketServer(policy, api_keys=KEYS)
        servers.append(server)
        return server, server.connect

    yield start
    for server in servers:
        server.close()


def ask(client, number, timeout=WAIT, **more):
    message = {"state": np.full(2, number), "session": "arm", **more}
    return client.infer(message, timeout)["actions"][0, 0]


def test_a_client_with_another_key_supersedes_nothing_and_gets_its_own_answer(serve, in_background):
    server, connect = serve()
    with contextlib.ExitStack() as stack:
        running, robot, other = (
            stack.enter_context(connect(api_key=key)) for key in (KEYS[0], KEYS[0], KEYS[1])
        )
        first = in_background(ask, running, 1.0)
        assert server.policy.entered.acquire(timeout=WAIT)
        second = in_background(ask, robot, 2.0)
        server.wait_until_waiting(1)
        third = in_background(ask, other, 3.0)
        server.wait_until_waiting(2)
        server.policy.gate.set()
        assert [answer.result(WAIT) for answer in (first, second, third)] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("key", KEYS)
def test_a_client_with_the_same_key_goes_on_with_the_session(serve, in_background, key):
    server, connect = serve()
    with contextlib.ExitStack() as stack:
        running, older, newer = (stack.enter_context(connect(api_key=key)) for _ in range(3))
        first = in_background(ask, running, 1.0)
        assert server.policy.entered.acquire(timeout=WAIT)
        superseded = in_background(ask, older, 2.0)
        server.wait_until_waiting(1)
        third = in_background(ask, newer, 3.0)
        with pytest.raises(Superseded):
            superseded.result(WAIT)
        server.policy.gate.set()
        assert (first.result(WAIT), third.result(WAIT)) == (1.0, 3.0)


def test_a_client_that_leaves_with_another_key_ends_no_session(serve, in_background):
    server, connect = serve()
    ended = []
    server.slot.subscribe(
        lambda event: ended.append(event.session) if type(event).__name__ == "SessionEnded" else 0
    )
    server.policy.gate.set()
    with connect(api_key=KEYS[0]) as robot:
        assert ask(robot, 1.0) == 1.0
        with connect(api_key=KEYS[1]) as other:
            assert ask(other, 2.0) == 2.0
        while not ended:
            threading.Event().wait(0.001)
        assert ended == [owned_name("arm", 1, "")]
        assert ask(robot, 3.0) == 3.0


def test_a_client_with_another_key_neither_resets_nor_cancels_a_request(serve, in_background):
    server, connect = serve()
    with contextlib.ExitStack() as stack:
        running, robot = (stack.enter_context(connect(api_key=KEYS[0])) for _ in range(2))
        first = in_background(ask, running, 1.0)
        assert server.policy.entered.acquire(timeout=WAIT)
        second = in_background(ask, robot, 2.0)
        server.wait_until_waiting(1)
        # a WebSocket's session is named by its requests only
        named = {} if isinstance(server, WebsocketServer) else {"session": "arm"}
        with connect(api_key=KEYS[1], **named) as other:
            other.reset()
            unwanted = other.submit({"state": np.zeros(2), "session": "arm"})
            server.wait_until_waiting(2)
            assert unwanted.cancel()
        # it has left, too
        wait_until(lambda: len(server.connections) == 2)
        server.policy.gate.set()
        assert [answer.result(WAIT) for answer in (first, second)] == [1.0, 2.0]


def test_no_client_can_name_the_session_of_another_key():
    with pytest.raises(ObservationError, match="session"):
        session_name(owned_name("arm", 1, ""))
    assert owned_name("arm", 0, "") == "arm"


def test_no_client_can_name_the_session_of_another_connection():
    default = "10.0.0.9:50000#1"
    for name in (default, "[2001:db8::1]:50000#12", "pid=7,uid=1000#3"):
        assert owned_name(name, 0, name) == name
        assert owned_name(name, 0, "10.0.0.8:40000#2") != name
        with pytest.raises(ObservationError, match="session"):
            session_name(owned_name(name, 0, "10.0.0.8:40000#2"))


def test_a_guessed_default_session_supersedes_nothing(serve, in_background):
    server, connect = serve()

    def infer(client, number, **named):
        return client.infer({"state": np.full(2, number), **named}, WAIT)["actions"][0, 0]

    heard = []
    server.slot.subscribe(
        lambda event: heard.append(event) if type(event).__name__ == "Received" else 0
    )
    with contextlib.ExitStack() as stack:
        running, robot, other = (stack.enter_context(connect(api_key=KEYS[0])) for _ in range(3))
        first = in_background(infer, running, 1.0)
        assert server.policy.entered.acquire(timeout=WAIT)
        second = in_background(infer, robot, 2.0)
        server.wait_until_waiting(1)
        # an attacker may know where the robot comes from
        third = in_background(lambda: infer(other, 3.0, session=heard[1].client.name))
        server.wait_until_waiting(2)
        server.policy.gate.set()
        assert [answer.result(WAIT) for answer in (first, second, third)] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.9", "10.0.0.9"),
        ("[2001:db8::1]", "2001:db8::/64"),
        ("[2001:db8::2:3]", "2001:db8::/64"),
        ("[2001:db8:0:1::1]", "2001:db8:0:1::/64"),
        ("[fe80::1%eth0]", "fe80::/64"),
        ("[::ffff:10.0.0.9]", "10.0.0.9"),
        ("uid=1000", "uid=1000"),
    ],
)
def test_the_addresses_of_one_ipv6_network_share_as_one_computer(address, network):
    assert Client(f"{address}:1#1", address).network == network


def test_with_one_key_a_held_session_needs_its_token(serve, in_background):
    server, connect = serve()
    with contextlib.ExitStack() as stack:
        robot, other, again = (stack.enter_context(connect(api_key=KEYS[0])) for _ in range(3))
        held = in_background(ask, robot, 1.0, session_token="secret")
        assert server.policy.entered.acquire(timeout=WAIT)
        server.policy.gate.set()
        assert held.result(WAIT) == 1.0
        assert "session_token" not in server.policy.seen[0]
        for token in ({}, {"session_token": "guess"}):
            # over QUIC the client asks again until its time is over
            with pytest.raises(ServerError, match="holds this session") as refused:
                ask(other, 2.0, REFUSED_WITHIN, **token)
            assert refused.value.code == "not_ready"
        assert ask(other, 3.0, session="leg") == 3.0
        # as a robot that connects again while the server believes in its old connection
        assert ask(again, 4.0, session_token="secret") == 4.0


def test_a_held_session_is_free_when_the_holder_has_left(serve):
    server, connect = serve()
    server.policy.gate.set()
    with connect(api_key=KEYS[0]) as killed:
        assert ask(killed, 1.0, session_token="lost") == 1.0
    wait_until(lambda: not server.connections)
    with connect(api_key=KEYS[0]) as restarted:
        assert ask(restarted, 2.0, session_token="new") == 2.0


@pytest.mark.parametrize("token", [1, "", "x" * 129, b"bytes"])
def test_a_token_that_is_none_is_refused_and_not_shown(serve, token):
    server, connect = serve()
    server.policy.gate.set()
    with connect(api_key=KEYS[0]) as robot:
        with pytest.raises(ServerError, match="session_token: expected text of 1 to 128") as error:
            ask(robot, 1.0, session_token=token)
        assert error.value.code == "bad_request"
        assert "xxx" not in str(error.value)


def test_another_client_cannot_reset_a_held_session(tmp_path):
    server = QuicServer(tmp_path / "state", FakePolicy(), api_keys=KEYS)
    try:
        with (
            server.connect(api_key=KEYS[0], session="arm") as robot,
            server.connect(api_key=KEYS[0], session="arm", connect_timeout=REFUSED_WITHIN) as other,
        ):
            assert ask(robot, 1.0, session_token="secret") == 1.0
            with pytest.raises(ServerError, match="holds this session"):
                other.reset()
            robot.reset()
    finally:
        server.close()
