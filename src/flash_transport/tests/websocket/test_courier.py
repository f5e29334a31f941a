"""Whose turn it is on a link that carries one request at a time, without any link."""

import gc
import threading
import weakref

import pytest
from quic_peers import LONG, eventually

from flash_transport import Disconnected, Superseded, Timeout
from flash_transport.courier import Courier
from flash_transport.deadline import Deadline

NEVER = Deadline(None)


class Link:
    """Carries what it is given; `hold` makes it wait for `go`."""

    def __init__(self):
        self.carried = []
        self.hung_up = []
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.courier = Courier(
            "test",
            hang_up=self._hang_up,
            late=lambda deadline: Timeout(f"late by {deadline}"),
            closed=lambda: Disconnected("closed"),
        )

    def _hang_up(self, errand):
        self.hung_up.append(errand)
        self.go.release()

    def submit(self, name, session="arm", deadline=NEVER, hold=False):
        def work(errand):
            self.carried.append(name)
            self.began.release()
            if hold:
                assert self.go.acquire(timeout=LONG)
                errand.check()
            return {"name": name}, None

        return self.courier.submit(session, deadline, work)

    def hold(self, name="held", session="other"):
        future = self.submit(name, session, hold=True)
        assert self.began.acquire(timeout=LONG)
        return future


@pytest.fixture
def link():
    link = Link()
    yield link
    link.courier.close()
    link.go.release(10)
    link.courier.join(LONG)


def test_requests_of_different_sessions_take_turns_in_the_order_of_their_coming(link):
    held = link.hold()
    futures = [link.submit(name, session=name) for name in "abc"]
    link.go.release()
    assert [future.result(LONG)["name"] for future in [held, *futures]] == ["held", *"abc"]
    assert link.carried == ["held", *"abc"]


def test_a_newer_request_takes_the_place_and_the_turn_of_the_one_that_waits(link):
    link.hold()
    old, other = link.submit("old"), link.submit("other's", session="third")
    new = link.submit("new")
    with pytest.raises(Superseded, match="newer observation"):
        old.result(LONG)
    link.go.release()
    assert other.result(LONG) == {"name": "other's"}
    assert new.result(LONG) == {"name": "new"}
    assert link.carried == ["held", "new", "other's"]


def test_what_is_under_way_is_not_disturbed_by_something_newer(link):
    old = link.hold(session="arm")
    new = link.submit("new")
    link.go.release()
    assert old.result(LONG) == {"name": "held"}
    assert new.result(LONG) == {"name": "new"}


def test_a_request_whose_time_is_over_before_its_turn_ends_in_time(link):
    link.hold()
    future = link.submit("late", deadline=Deadline(0.05))
    patient = link.submit("patient", session="third", deadline=Deadline(LONG))
    with pytest.raises(Timeout, match="late by 0.05 s"):
        future.result(LONG)
    link.go.release()
    assert patient.result(LONG) == {"name": "patient"}
    assert link.carried == ["held", "patient"]


def test_a_cancelled_request_that_waits_is_never_carried(link):
    link.hold()
    future = link.submit("unwanted")
    assert future.cancel()
    following = link.submit("wanted", session="third")
    link.go.release()
    following.result(LONG)
    assert link.carried == ["held", "wanted"]
    assert link.hung_up == []


def test_a_cancelled_request_that_is_under_way_is_hung_up_on(link):
    future = link.hold()
    assert future.cancel()
    assert len(link.hung_up) == 1
    assert link.submit("next").result(LONG) == {"name": "next"}
    assert future.cancelled()


def test_a_failing_request_costs_only_itself(link):
    def fail(errand):
        raise ZeroDivisionError("why")

    future = link.courier.submit("arm", NEVER, fail)
    with pytest.raises(ZeroDivisionError, match="why"):
        future.result(LONG)
    assert link.submit("next").result(LONG) == {"name": "next"}


def test_a_request_that_waits_to_be_carried_again_gives_way_to_a_newer_one(link):
    def not_ready(errand):
        link.began.release()
        link.courier.pause(errand, LONG)

    old = link.courier.submit("arm", NEVER, not_ready)
    assert link.began.acquire(timeout=LONG)
    eventually(lambda: link.courier._pausing)
    new = link.submit("new")
    with pytest.raises(Superseded, match="newer observation"):
        old.result(LONG)
    assert new.result(LONG) == {"name": "new"}


def test_a_request_that_waits_again_gives_way_to_one_that_came_before(link):
    def not_ready(errand):
        link.began.release()
        assert link.go.acquire(timeout=LONG)
        link.courier.pause(errand, LONG)

    old = link.courier.submit("arm", NEVER, not_ready)
    assert link.began.acquire(timeout=LONG)
    new = link.submit("new")
    link.go.release()
    with pytest.raises(Superseded, match="newer observation"):
        old.result(LONG)
    assert new.result(LONG) == {"name": "new"}


def test_closing_ends_what_waits_and_what_is_under_way(link):
    held, waiting = link.hold(), link.submit("waiting")
    link.courier.close()
    link.go.release()
    for future in (held, waiting):
        with pytest.raises(Disconnected, match="closed"):
            future.result(LONG)
    with pytest.raises(Disconnected, match="closed"):
        link.submit("later")
    link.courier.join(LONG)
    assert not any(thread.is_alive() for thread in link.courier._threads)


def test_an_answer_is_not_kept_alive_until_the_next_request(link):
    class Answer(dict):
        pass

    future = link.courier.submit("arm", NEVER, lambda errand: (Answer(), None))
    answer = weakref.ref(future.result(LONG))
    del future

    def is_gone():
        gc.collect()
        return answer() is None

    eventually(is_gone)
