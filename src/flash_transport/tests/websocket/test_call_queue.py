"""The threads that carry submitted calls one after the other, without any link and any clock."""

import gc
import threading
import weakref

import pytest
from quic_peers import LONG, eventually
from virtual_clock import VirtualClock

from flash_transport import Disconnected, ServerError, Superseded, Timeout
from flash_transport.call_queue import CallQueue, TryAgain
from flash_transport.deadline import NEVER, Deadline


class Link:
    """Carries what it is given; `hold` makes it wait for `go`."""

    def __init__(self):
        self.clock = VirtualClock()
        self.carried = []
        self.hung_up = []
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.queue = CallQueue(
            "test",
            hang_up=self._hang_up,
            late=lambda deadline: Timeout(f"late by {deadline}"),
            closed=lambda: Disconnected("closed"),
            clock=self.clock,
        )

    def _hang_up(self, call):
        self.hung_up.append(call)
        self.go.release()

    def submit(self, name, session="arm", seconds=None, hold=False):
        def work(call):
            self.carried.append(name)
            self.began.release()
            if hold:
                assert self.go.acquire(timeout=LONG)
                call.check()
            return {"name": name}, None

        return self.queue.submit(session, Deadline.after(seconds, self.clock.now()), work)

    def submit_to_a_server_that_is_not_ready(self, delay_s, session="arm", seconds=None):
        """The first attempt waits for `go`; the second answers."""
        attempts = []

        def work(_call):
            attempts.append(self.clock.now())
            self.began.release()
            if len(attempts) == 1:
                assert self.go.acquire(timeout=LONG)
                raise TryAgain(delay_s, ServerError("not_ready", "loading weights"))
            return {"attempts": attempts}, None

        future = self.queue.submit(session, Deadline.after(seconds, self.clock.now()), work)
        assert self.began.acquire(timeout=LONG)
        return future

    def hold(self, name="held", session="other"):
        future = self.submit(name, session, hold=True)
        assert self.began.acquire(timeout=LONG)
        return future


@pytest.fixture
def link():
    link = Link()
    yield link
    link.queue.close()
    link.go.release(10)
    link.queue.join(LONG)


def test_calls_of_different_sessions_take_turns_in_the_order_of_arrival(link):
    held = link.hold()
    futures = [link.submit(name, session=name) for name in "abc"]
    link.go.release()
    assert [future.result(LONG)["name"] for future in [held, *futures]] == ["held", *"abc"]
    assert link.carried == ["held", *"abc"]


def test_a_newer_call_takes_the_place_and_the_turn_of_the_one_that_waits(link):
    link.hold()
    old, other = link.submit("old"), link.submit("other's", session="third")
    new = link.submit("new")
    with pytest.raises(Superseded, match="newer observation"):
        old.result(LONG)
    link.go.release()
    assert other.result(LONG) == {"name": "other's"}
    assert new.result(LONG) == {"name": "new"}
    assert link.carried == ["held", "new", "other's"]


def test_the_call_that_is_carried_stays_when_a_newer_one_comes(link):
    old = link.hold(session="arm")
    new = link.submit("new")
    link.go.release()
    assert old.result(LONG) == {"name": "held"}
    assert new.result(LONG) == {"name": "new"}


def test_only_the_call_that_waits_is_superseded_by_one_that_goes_another_way(link):
    held = link.hold(session="arm")
    old, other = link.submit("old"), link.submit("other's", session="third")
    link.queue.supersede("arm")
    with pytest.raises(Superseded, match="newer observation"):
        old.result(LONG)
    link.go.release()
    assert held.result(LONG) == {"name": "held"}
    assert other.result(LONG) == {"name": "other's"}
    assert link.carried == ["held", "other's"]


def test_a_call_whose_time_is_over_before_its_turn_ends_in_time(link):
    link.hold()
    future = link.submit("late", seconds=5.0)
    patient = link.submit("patient", session="third", seconds=6.0)
    link.clock.advance(4.9)
    assert not future.done()
    link.clock.advance(0.1)
    with pytest.raises(Timeout, match="late by 5 s"):
        future.result(LONG)
    assert not patient.done()
    link.go.release()
    assert patient.result(LONG) == {"name": "patient"}
    assert link.carried == ["held", "patient"]


def test_a_cancelled_call_that_waits_is_never_carried(link):
    link.hold()
    future = link.submit("unwanted")
    assert future.cancel()
    following = link.submit("wanted", session="third")
    link.go.release()
    following.result(LONG)
    assert link.carried == ["held", "wanted"]
    assert link.hung_up == []


def test_a_cancelled_call_that_is_carried_is_hung_up_on(link):
    future = link.hold()
    assert future.cancel()
    assert len(link.hung_up) == 1
    assert link.submit("next").result(LONG) == {"name": "next"}
    assert future.cancelled()


def test_a_failing_call_costs_only_itself(link):
    def fail(call):
        raise ZeroDivisionError("why")

    future = link.queue.submit("arm", NEVER, fail)
    with pytest.raises(ZeroDivisionError, match="why"):
        future.result(LONG)
    assert link.submit("next").result(LONG) == {"name": "next"}


def test_a_call_is_carried_again_after_the_delay_and_not_before(link):
    future = link.submit_to_a_server_that_is_not_ready(delay_s=3.0)
    link.go.release()
    eventually(lambda: link.queue._line.next_turn() == 3.0)
    link.clock.advance(2.9)
    assert not future.done()
    link.clock.advance(0.1)
    assert future.result(LONG) == {"attempts": [0.0, 3.0]}


def test_other_sessions_are_carried_while_a_call_waits_to_be_carried_again(link):
    future = link.submit_to_a_server_that_is_not_ready(delay_s=3.0)
    link.go.release()
    assert link.submit("leg's", session="leg").result(LONG) == {"name": "leg's"}
    assert not future.done()


def test_a_call_that_waits_to_be_carried_again_gives_way_to_a_newer_one(link):
    old = link.submit_to_a_server_that_is_not_ready(delay_s=3.0)
    link.go.release()
    eventually(lambda: link.queue._line.next_turn() == 3.0)
    new = link.submit("new")
    with pytest.raises(Superseded, match="newer observation"):
        old.result(LONG)
    assert new.result(LONG) == {"name": "new"}


def test_a_call_that_must_wait_again_gives_way_to_one_that_came_meanwhile(link):
    old = link.submit_to_a_server_that_is_not_ready(delay_s=3.0)
    new = link.submit("new")
    link.go.release()
    with pytest.raises(Superseded, match="newer observation"):
        old.result(LONG)
    assert new.result(LONG) == {"name": "new"}


def test_a_call_whose_time_is_over_while_it_waits_to_be_carried_again_says_why_it_waited(link):
    future = link.submit_to_a_server_that_is_not_ready(delay_s=3.0, seconds=2.0)
    link.go.release()
    eventually(lambda: link.queue._line.next_turn() == 3.0)
    link.clock.advance(2.0)
    with pytest.raises(ServerError, match="not_ready: loading weights"):
        future.result(LONG)


def test_a_call_that_is_cancelled_while_it_is_carried_is_not_carried_again(link):
    future = link.submit_to_a_server_that_is_not_ready(delay_s=0.0)
    assert future.cancel()
    assert link.submit("next", session="leg").result(LONG) == {"name": "next"}
    assert link.queue._line.waiting == []


def test_closing_ends_what_waits_and_what_is_carried(link):
    held, waiting = link.hold(), link.submit("waiting")
    link.queue.close()
    link.go.release()
    for future in (held, waiting):
        with pytest.raises(Disconnected, match="closed"):
            future.result(LONG)
    with pytest.raises(Disconnected, match="closed"):
        link.submit("later")
    link.queue.join(LONG)
    assert not any(thread.is_alive() for thread in link.queue._threads)


def test_closing_ends_a_call_that_must_be_carried_again(link):
    future = link.submit_to_a_server_that_is_not_ready(delay_s=3.0)
    link.queue.close()
    link.go.release()
    with pytest.raises(Disconnected, match="closed"):
        future.result(LONG)


def test_an_answer_is_not_kept_alive_until_the_next_call(link):
    class Answer(dict):
        pass

    future = link.queue.submit("arm", NEVER, lambda call: (Answer(), None))
    answer = weakref.ref(future.result(LONG))
    del future

    def is_gone():
        gc.collect()
        return answer() is None

    eventually(is_gone)
