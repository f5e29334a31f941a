"""Submitted requests between the connections of a client that chooses, without a network."""

import threading
from types import SimpleNamespace

import pytest
from quic_peers import LONG

from flash_transport import Disconnected, packb
from flash_transport.auto import links as module
from flash_transport.auto.calls import Call
from flash_transport.auto.links import Links
from flash_transport.deadline import NEVER
from flash_transport.futures import InferenceFuture
from flash_transport.not_begun import NotBegun


class Side:
    """Stands for a transport: keeps what it is given.

    Attributes:
        begun: the observation and the future of each request.
    """

    def __init__(self):
        self.begun = []
        self.has_begun = threading.Condition()

    def named(self, observation):
        return observation

    def begin(self, observation, timeout, first):
        future = InferenceFuture()
        with self.has_begun:
            self.begun.append(SimpleNamespace(observation=observation, future=future))
            self.has_begun.notify_all()
        return future, lambda: self.take_back(observation)

    def take_back(self, observation):
        return observation

    def nth(self, number):
        """Waits for the request of this number, from 0."""
        with self.has_begun:
            assert self.has_begun.wait_for(lambda: len(self.begun) > number, LONG)
        return self.begun[number]

    def close(self):
        pass


class Quic(Side):
    """Stands for QUIC, which is up or down as the test says."""

    def __init__(self):
        super().__init__()
        self.changed = threading.Condition()
        self.number = 0
        self.is_nudged = False
        self.now = ("down", "the test has not said", None)

    def becomes(self, name, reason="", error=None):
        with self.changed:
            self.number += 1
            self.now = (name, reason, error)
            self.changed.notify_all()

    def standing(self, known, within):
        with self.changed:
            self.changed.wait_for(lambda: self.number != known or self.is_nudged, within)
            self.is_nudged = False
            name = self.now[0]
            return self.number, *self.now, (0.0, 0.01) if name == "up" else None

    def nudge(self):
        with self.changed:
            self.is_nudged = True
            self.changed.notify_all()

    def begin_connecting(self):
        pass

    def stop_connecting(self):
        pass


@pytest.fixture
def quic():
    return Quic()


@pytest.fixture
def links(quic):
    links = Links("gpu:5555", quic, None, "there is none", LONG)
    yield links
    links.close()


def submit(links, session="arm", **observation):
    call = Call(
        {"session": session, **observation},
        None,
        NEVER,
        convert=None,
        first=None,
        forget=links.forget,
    )
    links.submit(call)
    return call.future


def test_a_call_that_is_copied_while_the_client_is_closed_ends(links, monkeypatch):
    def close_meanwhile(observation):
        links.close()
        return packb(observation)

    monkeypatch.setattr(module, "packb", close_meanwhile)
    with pytest.raises(Disconnected, match="this client of gpu:5555 is closed"):
        submit(links).result(LONG)


def test_a_call_that_comes_back_while_the_client_is_closed_ends(links, quic):
    quic.becomes("up")
    links.wait(NEVER)
    future = submit(links)

    def close_meanwhile(observation):
        links.close()
        return observation

    quic.take_back = close_meanwhile
    quic.nth(0).future._fail(NotBegun("the connection was lost"))
    with pytest.raises(Disconnected, match="this client of gpu:5555 is closed"):
        future.result(LONG)
