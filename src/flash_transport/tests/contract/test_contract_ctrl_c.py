"""Any client of a policy server: Ctrl-C ends each of its waits."""

import contextlib
import socket
import threading

import pytest
from contract_handlers import Held
from quic_peers import LONG, eventually

from flash_transport import FlashTransportPolicy, WebsocketPolicy, aio


def test_ctrl_c_ends_the_wait_for_an_answer_and_the_client_goes_on(serving, press_ctrl_c):
    requests = []

    def handle(request):
        requests.append(request)
        if request.observation.get("press"):
            press_ctrl_c()
        else:
            request.respond({"n": 2})

    with serving(handle).connect() as policy:
        with pytest.raises(KeyboardInterrupt):
            policy.infer({"press": True}, timeout=LONG)
        eventually(lambda: requests[0].cancelled)
        assert policy.infer({}, timeout=LONG) == {"n": 2}


def wait_after(start, wait):
    start()
    wait()


def test_ctrl_c_ends_the_wait_for_a_future(serving, press_ctrl_c):
    held = Held()
    with serving(held).connect() as policy:
        future = policy.submit({}, timeout=LONG)
        request = held.wait_for(1)
        # most often in the wait, and before it on a busy machine: either way it comes through
        presses = threading.Timer(0.05, press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            wait_after(presses.start, lambda: future.result(LONG))
        presses.join()
        request.respond({"n": 1})
        assert future.result(LONG) == {"n": 1}


def test_ctrl_c_ends_the_wait_for_a_server_that_gets_ready(serving, press_ctrl_c):
    asked = []

    def not_ready(request):
        asked.append(request)
        request.fail("not_ready", "loading weights")
        if len(asked) == 2:
            press_ctrl_c()

    with serving(not_ready).connect() as policy, pytest.raises(KeyboardInterrupt):
        policy.infer({}, timeout=LONG)


@contextlib.contextmanager
def pressing_when(attempted, press):
    """Runs `attempted`, which returns when a client has tried to connect, then presses."""
    thread = threading.Thread(target=lambda: (attempted(), press()))
    thread.start()
    yield
    thread.join(LONG)
    assert not thread.is_alive()


@pytest.mark.parametrize("client", [FlashTransportPolicy, aio.FlashTransportPolicy])
def test_ctrl_c_ends_the_wait_for_a_silent_server_over_quic(client, press_ctrl_c):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(LONG)
        with (
            pytest.raises(KeyboardInterrupt),
            pressing_when(lambda: silent.recv(2048), press_ctrl_c),
        ):
            client("127.0.0.1", silent.getsockname()[1], connect_timeout=LONG)


def test_ctrl_c_ends_the_wait_for_a_silent_server_over_websocket(press_ctrl_c):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(LONG)
        connections = []
        with (
            pytest.raises(KeyboardInterrupt),
            pressing_when(lambda: connections.append(silent.accept()[0]), press_ctrl_c),
        ):
            WebsocketPolicy("127.0.0.1", silent.getsockname()[1], connect_timeout=LONG)
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("client", [aio.FlashTransportPolicy, WebsocketPolicy])
def test_ctrl_c_ends_the_wait_for_a_resolver_that_hangs(client, press_ctrl_c, monkeypatch):
    began, go = threading.Event(), threading.Event()

    def hang(*_, **__):
        began.set()
        go.wait(LONG)
        raise socket.gaierror(socket.EAI_AGAIN, "too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with (
        pytest.raises(KeyboardInterrupt),
        pressing_when(lambda: began.wait(LONG), press_ctrl_c),
    ):
        client("gpu.example", connect_timeout=LONG)
    go.set()
