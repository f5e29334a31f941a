"""Our WebSocket client beside openpi's own: the same bytes both ways."""

import numpy as np
import pytest
from openpi_client import msgpack_numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from openpi_server import SOON, choose_ours, serving

from flash_transport import WebsocketPolicy

OPENPI_CONNECTS_AS_EVER = pytest.mark.filterwarnings(
    r"ignore:connect\(\) must be used as a context manager:DeprecationWarning"
)

OBSERVATION = {
    "image": np.arange(224 * 224 * 3, dtype=np.uint8).reshape(224, 224, 3),
    "state": np.arange(7, dtype=np.float32),
    "prompt": "pick up the cube",
    "np": np.float32(1.5),
}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert type(value) is type(other[key])
        assert np.array_equal(value, other[key])


@OPENPI_CONNECTS_AS_EVER
def test_answers_are_what_openpis_client_gets(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        theirs = WebsocketClientPolicy("127.0.0.1", server.port)
        assert policy.get_server_metadata() == theirs.get_server_metadata() == {"model": "pi0"}
        for _ in range(2):
            answer = policy.infer(OBSERVATION)
            assert_same(answer, OBSERVATION)
            assert_same(answer, theirs.infer(OBSERVATION))
        theirs._ws.close()


def test_requests_are_the_bytes_that_openpis_client_sends(server, monkeypatch):
    received = []
    monkeypatch.setattr(msgpack_numpy, "unpackb", received.append)
    server.answer = lambda observation, number: {}
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        policy.infer(OBSERVATION)
    assert received == [msgpack_numpy.packb(OBSERVATION)]


def test_reset_says_nothing_to_the_server(server):
    server.answer = lambda observation, number: {"got": observation}
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        policy.reset()
        assert policy.infer({"a": 1}) == {"got": {"a": 1}}


@OPENPI_CONNECTS_AS_EVER
def test_the_api_key_is_sent_as_openpis_client_sends_it(server):
    WebsocketPolicy("127.0.0.1", server.port, api_key="secret").close()
    WebsocketClientPolicy("127.0.0.1", server.port, api_key="secret")._ws.close()
    WebsocketPolicy("127.0.0.1", server.port).close()
    keys = [headers.get("Authorization") for headers in server.headers]
    assert keys == ["Api-Key secret", "Api-Key secret", None]


def test_an_answer_of_openpis_server_may_have_an_entry_named_error(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        answer = {"error": {"code": "x", "message": "y"}}
        assert policy.infer(answer) == answer


def test_a_deadline_goes_only_to_servers_of_ours():
    seen = []

    def answer(observation, number):
        seen.append(sorted(observation))
        return {}

    for choose in (None, choose_ours):
        with serving(answer, select_subprotocol=choose) as server:
            server.metadata = {"supports": ["deadline_ms"]}
            with WebsocketPolicy("127.0.0.1", server.port) as policy:
                policy.infer({"n": 1}, timeout=SOON)
    assert seen == [["n"], ["deadline_ms", "n"]]
