"""Waiting for work that cannot be interrupted."""

import socket
import threading

import pytest
from openpi_server import SHORT, SOON, in_thread
from quic_peers import LONG

from flash_transport import Disconnected, Timeout, WebsocketPolicy
from flash_transport.interruptible import Abandoned, Attempt
from flash_transport.websocket import dial


def test_the_result_and_the_error_come_through():
    assert Attempt(lambda: 7, discard=print).result(LONG) == 7
    with pytest.raises(ZeroDivisionError):
        Attempt(lambda: 1 // 0, discard=print).result(LONG)


def test_a_result_that_comes_too_late_is_discarded():
    go, discarded, gone = threading.Event(), [], threading.Event()

    def work():
        assert go.wait(LONG)
        return "late"

    def discard(result):
        discarded.append(result)
        gone.set()

    with pytest.raises(TimeoutError):
        Attempt(work, discard).result(0)
    go.set()
    assert gone.wait(LONG)
    assert discarded == ["late"]


def test_another_thread_ends_the_wait():
    go, began = threading.Event(), threading.Event()

    def work():
        began.set()
        assert go.wait(LONG)

    attempt = Attempt(work, discard=lambda result: None)
    with in_thread(lambda: attempt.result(LONG)) as waiting:
        assert began.wait(LONG)
        attempt.abandon()
        with pytest.raises(Abandoned):
            waiting.result()
        go.set()


@pytest.fixture
def hanging_resolver(monkeypatch):
    """A resolver that answers nobody until the test ends."""
    go, began = threading.Event(), threading.Event()

    def hang(*_, **__):
        began.set()
        go.wait(LONG)
        raise socket.gaierror(socket.EAI_AGAIN, "too late")

    monkeypatch.setattr(dial.socket, "getaddrinfo", hang)
    yield began
    go.set()


def test_a_resolver_that_hangs_takes_no_longer_than_the_connection_may(hanging_resolver):
    with pytest.raises(Timeout, match="within 0.15 s: .*looking up its name takes too long"):
        WebsocketPolicy("gpu.example", connect_timeout=SHORT)


def test_closing_ends_the_wait_for_a_resolver_that_hangs(server, hanging_resolver):
    policy = WebsocketPolicy.__new__(WebsocketPolicy)
    with in_thread(lambda: policy.__init__("gpu.example", connect_timeout=SOON)) as connecting:
        assert hanging_resolver.wait(LONG)
        policy.close()
        with pytest.raises(Disconnected, match="is closed"):
            connecting.result()
