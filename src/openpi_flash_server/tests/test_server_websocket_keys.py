"""Who may come in over WebSocket."""

import socket

import pytest
from served_slot import connect, get
from server_fakes import WAIT
from websockets.exceptions import InvalidStatus


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Api-Key wrong"},
        {"Authorization": "Api-Key"},
        {"Authorization": "Basic s3cret"},
        {"Authorization": "Api-Key s3cret2"},
    ],
)
def test_no_key_or_a_wrong_one_is_401(serve_websocket, headers):
    server = serve_websocket(api_keys=["s3cret"])
    with pytest.raises(InvalidStatus) as refused:
        connect(server, additional_headers=headers)
    assert refused.value.response.status_code == 401
    assert b"Authorization: Api-Key" in refused.value.response.body


def test_a_key_of_strange_bytes_is_401_too(serve_websocket):
    server = serve_websocket(api_keys=["s3cret"])
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as raw:
        raw.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Authorization: Api-Key \xff\xfe\r\n\r\n"
        )
        assert raw.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_health_needs_no_key(serve_websocket):
    assert get(serve_websocket(api_keys=["s3cret"])) == (200, "OK\n")
