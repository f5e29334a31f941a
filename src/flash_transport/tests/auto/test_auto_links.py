"""Submitted requests between the connections of a client that chooses, without a network."""

import contextlib
import threading
from types import SimpleNamespace

import pytest
from quic_peers import LONG

from flash_transport import Disconnected, ServerError, Superseded, UntrustedServer, packb
from flash_transport.auto import links as module
from flash_transport.auto.calls import Call
from flash_transport.auto.failure import Failure
from flash_transport.auto.links import Links
from flash_transport.auto.websocket_link import WebsocketLink
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

    def before_begin(self, observation):
        pass

    def begin(self, observation, timeout, first):
        self.before_begin(observation)
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


@pytest.fixture
def linked(quic):
    """`linked(open_websocket)` has a fall-back."""
    with contextlib.ExitStack() as stack:

        def link(open_websocket):
            links = Links("gpu:5555", quic, open_websocket, "", LONG)
            stack.callback(links.close)
            return links

        yield link


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


def lose(request):
    request.future._fail(NotBegun("the connection was lost"))


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
    lose(quic.nth(0))
    with pytest.raises(Disconnected, match="this client of gpu:5555 is closed"):
        future.result(LONG)


def test_of_calls_that_come_back_the_newest_is_carried_in_whatever_order_they_come(links, quic):
    quic.becomes("up")
    links.wait(NEVER)
    older, newer = submit(links, x=1), submit(links, x=2)
    quic.becomes("down", "the connection was lost")
    lose(quic.nth(1))
    lose(quic.nth(0))
    with pytest.raises(Superseded, match="a newer observation"):
        older.result(LONG)
    quic.becomes("up")
    assert quic.nth(2).observation["x"] == 2
    assert not newer.done()


def test_a_call_that_comes_back_is_not_carried_behind_a_newer_one(links, quic):
    quic.becomes("up")
    links.wait(NEVER)
    older = submit(links, x=1)
    newer, other = submit(links, x=2), submit(links, "leg", x=3)
    lose(quic.nth(0))
    with pytest.raises(Superseded, match="a newer observation"):
        older.result(LONG)
    assert not newer.done()
    assert not other.done()


def test_a_call_that_comes_back_after_a_newer_one_has_ended_is_carried(links, quic):
    quic.becomes("up")
    links.wait(NEVER)
    older, newer = submit(links, x=1), submit(links, x=2)
    assert newer.cancel()
    lose(quic.nth(0))
    assert quic.nth(2).observation["x"] == 1
    assert not older.done()


def test_a_call_does_not_pass_those_that_have_waited_and_are_handed_over(links, quic):
    is_handed_over, may_go_on = threading.Event(), threading.Event()

    def hold_up(observation):
        if observation["x"] == 1:
            is_handed_over.set()
            assert may_go_on.wait(LONG)

    quic.before_begin = hold_up
    submit(links, x=1)
    quic.becomes("up")
    assert is_handed_over.wait(LONG)
    submit(links, x=2)
    may_go_on.set()
    assert quic.nth(0).observation["x"] == 1
    assert quic.nth(1).observation["x"] == 2


def test_a_call_that_cannot_be_packed_supersedes_none(links, quic):
    quic.becomes("up")
    links.wait(NEVER)
    submit(links, x=1)

    def refuse(observation):
        raise ValueError("it cannot be packed")

    quic.before_begin = refuse
    with pytest.raises(ValueError, match="cannot be packed"):
        submit(links, x=2)
    quic.before_begin = lambda observation: None
    lose(quic.nth(0))
    assert quic.nth(1).observation["x"] == 1


def test_a_call_whose_connections_are_lost_again_and_again_ends(links, quic):
    quic.becomes("up")
    future = submit(links)
    for number in range(module.MOST_LOSSES):
        lose(quic.nth(number))
    with pytest.raises(Disconnected, match="8 connections .* over quic: the connection was lost"):
        future.result(LONG)


def test_a_server_without_tls_is_not_asked_for_it_again_after_a_loss_but_after_a_failure():
    asked, noted, lock = [], [], threading.Condition()
    side = SimpleNamespace(is_encrypted=False, when_lost=lambda tell: None, close=lambda: None)

    def open_side(*, had_no_tls):
        asked.append(had_no_tls)
        if len(asked) == 2:
            raise Disconnected("nothing listens there")
        return side

    def note(error):
        noted.append(error)
        lock.notify_all()

    link = WebsocketLink(open_side, lock, note)
    side.when_lost = lambda tell: setattr(side, "lose", lambda: tell(side))
    with lock:
        for events in (1, 3, 4):
            link.connect()
            assert lock.wait_for(lambda count=events: len(noted) == count, LONG)
            if events == 1:
                side.lose()
    assert asked == [False, True, False]
    assert [type(error) for error in noted] == [type(None), Disconnected, Disconnected, type(None)]


def test_a_call_is_told_the_final_error_of_one_transport_though_the_other_fails_at_once(
    linked, quic
):
    nudge = quic.nudge

    def open_websocket(*, had_no_tls):
        # the thread of the connections finds both at once
        quic.nudge = lambda: (quic.becomes("down", "nothing listens there"), nudge())
        raise UntrustedServer("the certificate is not the pinned one")

    future = submit(linked(open_websocket))
    with pytest.raises(UntrustedServer, match="not the pinned one"):
        future.result(LONG)


def test_a_final_error_stays_and_what_a_server_said_goes_with_its_next_failure():
    untrusted, not_ready = UntrustedServer("it is another one"), ServerError("not_ready", "loads")
    failure = Failure().of_websocket(untrusted).of_quic("nothing listens there", None)
    assert (failure.final, failure.finals) == (untrusted, 1)
    failure = failure.of_quic("loads", not_ready)
    assert failure.unreachable("gpu:5555", NEVER, "") is not_ready
    failure = failure.of_quic("nothing listens there", None)
    assert (failure.final, failure.finals) == (untrusted, 1)
    assert "QUIC: nothing listens there; WebSocket: it is another one" in str(
        failure.unreachable("gpu:5555", NEVER, "")
    )
