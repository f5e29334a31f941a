"""A WebSocket port that opens, warms up, and closes."""

import socket
import threading

import numpy as np
import pytest
from served_slot import WebsocketServer, connect, get
from server_fakes import WAIT, FakePolicy
from websockets.exceptions import ConnectionClosed, InvalidStatus

from flash_transport import ServerError, WebsocketPolicy
from flash_transport.websocket.connection import SUBPROTOCOL
from openpi_flash_server.slot.life import Stage
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.transports.websocket.listener import WebsocketTransport

# openpi's client connects in the way of older websockets
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")


def test_health_says_what_the_server_waits_for_until_it_is_ready(serve_websocket):
    server = serve_websocket(opened=False)
    assert get(server) == (503, "starting\n")
    server.slot.prepares(Stage.LOADING, "warming up: loading the action model")
    assert get(server) == (503, "warming up: loading the action model\n")
    server.open()
    assert get(server) == (200, "OK\n")
    assert get(server, "/healthz?verbose") == (200, "OK\n")


def test_our_client_is_refused_with_the_reason_while_the_server_warms_up(serve_websocket):
    server = serve_websocket(opened=False)
    server.slot.prepares(Stage.LOADING, "warming up: compiling")
    with pytest.raises(ServerError, match="not_ready: warming up: compiling"):
        WebsocketPolicy("127.0.0.1", server.port, connect_timeout=0.2)
    with pytest.raises(InvalidStatus) as refused:
        connect(server, subprotocols=[SUBPROTOCOL])
    assert refused.value.response.status_code == 503
    assert refused.value.response.body == b"not_ready: warming up: compiling\n"


def test_a_client_that_waits_for_the_start_can_leave_and_the_server_can_stop(serve_websocket):
    server = serve_websocket(opened=False)
    with connect(server):
        while not server.transport.waiting_clients:
            threading.Event().wait(0.001)
    while server.transport.waiting_clients:
        threading.Event().wait(0.001)
    with connect(server) as stays:
        server.transport.close(grace=WAIT)
        with pytest.raises(Exception, match="1001"):
            stays.recv(WAIT)


def test_closing_lets_the_running_answer_out(openpi_client, in_background):
    server = WebsocketServer(FakePolicy(gate=threading.Event()))
    client = openpi_client(server.port)
    answer = in_background(client.infer, {"state": np.ones(2)})
    assert server.policy.entered.acquire(timeout=WAIT)
    closing = in_background(server.close)
    assert answer.result(WAIT)["actions"].shape == (3, 2)
    closing.result(WAIT)
    with pytest.raises(OSError, match="refused"):
        connect(server)


def test_closing_does_not_wait_for_an_inference_that_does_not_end(openpi_client, in_background):
    server = WebsocketServer(FakePolicy(gate=threading.Event()))
    client = openpi_client(server.port)
    answer = in_background(client.infer, {"state": np.ones(2)})
    assert server.policy.entered.acquire(timeout=WAIT)
    assert not server.slot.close(grace=0.01)
    server.transport.close(grace=0.01)
    with pytest.raises(ConnectionClosed):
        answer.result(WAIT)
    server.policy.gate.set()
    assert server.slot.close(grace=WAIT)


def test_a_port_in_use_is_an_error_of_the_constructor():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            WebsocketTransport(Slot("action"), host="127.0.0.1", port=port)
