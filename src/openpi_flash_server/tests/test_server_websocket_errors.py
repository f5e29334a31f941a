"""Bad requests over WebSocket: each client is told in its own way, and nobody else notices."""

import socket

import numpy as np
import openpi_client.msgpack_numpy as openpi_codec
import pytest
from served_slot import connect, get
from server_fakes import WAIT
from websockets.exceptions import ConnectionClosedError

from flash_transport import AuthenticationFailed, ServerError, WebsocketPolicy
from flash_transport.websocket.connection import SUBPROTOCOL
from openpi_flash_server.transports.websocket.listener import MAX_MESSAGE_BYTES


def test_our_client_keeps_its_connection_after_a_bad_request(serve_websocket):
    with connect(serve_websocket(), subprotocols=[SUBPROTOCOL]) as client:
        assert client.subprotocol == SUBPROTOCOL
        client.recv()
        for data, message in [
            (openpi_codec.packb({}), "state: missing, expected float32 [2]"),
            (openpi_codec.packb([1]), "observation: expected a map, got list"),
            ("text", "observation: expected a binary frame, got a text frame"),
        ]:
            client.send(data)
            error = openpi_codec.unpackb(client.recv())
            assert error == {"error": {"code": "bad_request", "message": message}}
        client.send(openpi_codec.packb({"state": np.zeros(2)}))
        assert openpi_codec.unpackb(client.recv())["actions"].shape == (3, 2)


def test_our_own_client_gets_typed_errors_and_goes_on_with_the_same_connection(serve_websocket):
    server = serve_websocket(api_keys=["s3cret"])
    with WebsocketPolicy("127.0.0.1", server.port, api_key="s3cret") as policy:
        assert policy.get_server_metadata()["robot"] == "two_joints"
        with pytest.raises(ServerError) as refused:
            policy.infer({"state": np.zeros(9)}, timeout=WAIT)
        result = policy.infer({"state": np.zeros(2), "observation_stamp": 5}, timeout=WAIT)
    assert (refused.value.code, refused.value.message) == (
        "bad_request",
        "state: expected shape [2], got [9]",
    )
    assert result["observation_stamp"] == 5
    assert server.connection_count == 1
    with pytest.raises(AuthenticationFailed, match="send the header Authorization"):
        WebsocketPolicy("127.0.0.1", server.port, api_key="wrong")


def test_no_traceback_goes_to_our_client(serve_websocket):
    with connect(serve_websocket(), subprotocols=[SUBPROTOCOL]) as client:
        client.recv()
        client.send(openpi_codec.packb({"explode": "x", "state": np.zeros(2)}))
        error = openpi_codec.unpackb(client.recv())["error"]
    assert error == {"code": "internal", "message": "RuntimeError: the model exploded: x"}


GARBAGE = [
    b"",
    b"\xc1",
    b"\x00" * 100,
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x91" * 100_000,
    b"\x81\xa5state\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x04abcd\xc4\x05dtype\xa3<f8\xc4\x05shape\x91\x09",
    openpi_codec.packb({"state": np.zeros(2)})[:-3],
    openpi_codec.packb({"state": np.zeros(2)}) + b"\x00",
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_a_bad_request_and_the_connection_survives(serve_websocket, data):
    with connect(serve_websocket(), subprotocols=[SUBPROTOCOL]) as client:
        client.recv()
        client.send(data)
        assert openpi_codec.unpackb(client.recv())["error"]["code"] == "bad_request"
        client.send(openpi_codec.packb({"state": np.zeros(2)}))
        assert openpi_codec.unpackb(client.recv())["actions"].shape == (3, 2)


def test_a_message_over_the_limit_closes_its_connection_with_1009(serve_websocket):
    server = serve_websocket()
    with connect(server) as client:
        client.recv()
        client.send(bytes(MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosedError) as closed:
            client.recv()
    assert closed.value.rcvd.code == 1009
    assert get(server) == (200, "OK\n")


def test_bytes_that_are_no_http_hurt_nobody(serve_websocket):
    server = serve_websocket()
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as garbage:
        garbage.sendall(b"\x16\x03\x01\x02\x00\r\n" * 200)
        garbage.recv(4096)
    assert get(server) == (200, "OK\n")
