"""Which submitted request goes next over a link that carries one at a time."""

import json
from pathlib import Path

import pytest

from flash_transport.deadline import NEVER, Deadline
from flash_transport.waiting_line import Progress, WaitingLine

CASES = json.loads((Path(__file__).parents[1] / "data" / "newest_wins.json").read_text())
"""The cases that every line of this repository keeps, the compiled ones and the server's too."""


class Line:
    """A waiting line that speaks the events of the cases."""

    def __init__(self):
        self.line = WaitingLine()

    def submit(self, session, request):
        older = self.line.submit(session, request)
        return {"superseded": [] if older is None else [older]}

    def take(self):
        return {"started": self.line.take(now=0.0)}

    def finish(self, request):
        self.line.finish(request)
        return {}

    def cancel(self, request):
        self.line.withdraw(request)
        return {}

    def wait_again(self, request):
        return {"superseded": [] if self.line.put_back(request, not_before=0.0) else [request]}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_newest_request_of_a_session_wins(case):
    assert set(case["needs"]) <= {"wait_again"}
    line = Line()
    for number, event in enumerate(case["events"]):
        expected = {key: event[key] for key in ("superseded", "started") if key in event}
        arguments = {key: event[key] for key in ("session", "request") if key in event}
        got = getattr(line, event["do"])(**arguments)
        assert got == expected, f"event {number}"
        assert line.line.waiting == event["waiting"], f"event {number}"


def test_there_are_cases():
    assert len(CASES) >= 10


def test_a_request_that_waits_again_is_not_due_before_its_time():
    line = WaitingLine()
    line.submit("arm", "a")
    assert line.take(now=1.0) == "a"
    assert line.put_back("a", not_before=1.5)
    assert line.take(now=1.4) is None
    assert line.next_turn() == 1.5
    line.submit("leg", "b")
    assert line.take(now=1.4) == "b"
    line.finish("b")
    assert line.take(now=1.5) == "a"


def test_what_is_over_or_was_never_carried_cannot_be_put_back():
    line = WaitingLine()
    line.submit("arm", "a")
    assert not line.put_back("a", not_before=0.0)
    assert line.take(now=0.0) == "a"
    line.finish("a")
    assert not line.put_back("a", not_before=0.0)
    assert line.waiting == []


def test_only_what_waits_gives_way_to_what_goes_another_way():
    line = WaitingLine()
    line.submit("arm", "a")
    assert line.take(now=0.0) == "a"
    assert line.give_way("arm") is None
    line.submit("arm", "b")
    line.submit("leg", "c")
    assert line.give_way("arm") == "b"
    assert line.waiting == ["c"]
    assert line.carried == "a"


def test_only_what_waits_expires_each_at_its_own_deadline():
    line = WaitingLine()
    line.submit("carried", "carried", Deadline.after(1.0, now=0.0))
    assert line.take(now=0.0) == "carried"
    early, late = Deadline.after(2.0, now=0.0), Deadline.after(3.0, now=0.0)
    line.submit("early", "early", early)
    line.submit("late", "late", late)
    line.submit("patient", "patient", NEVER)
    assert line.next_expiry() == 2.0
    assert line.expire(now=1.9) == []
    assert line.expire(now=2.0) == [("early", early)]
    assert line.next_expiry() == 3.0
    assert line.expire(now=10.0) == [("late", late)]
    assert line.next_expiry() is None
    assert line.waiting == ["patient"]


def test_a_request_keeps_its_deadline_when_it_waits_again():
    line = WaitingLine()
    line.submit("arm", "a", Deadline.after(5.0, now=0.0))
    line.take(now=0.0)
    line.put_back("a", not_before=1.0)
    assert line.next_expiry() == 5.0


def test_a_withdrawn_request_says_how_far_it_had_come():
    line = WaitingLine()
    line.submit("arm", "a")
    line.submit("leg", "b")
    line.take(now=0.0)
    assert line.withdraw("b") is Progress.WAITS
    assert line.withdraw("a") is Progress.IS_CARRIED
    line.finish("a")
    assert line.withdraw("a") is Progress.IS_OVER
    assert (line.carried, line.waiting) == (None, [])


def test_clearing_leaves_what_is_carried():
    line = WaitingLine()
    for name in "abc":
        line.submit(name, name)
    line.take(now=0.0)
    assert line.clear() == ["b", "c"]
    assert (line.carried, line.waiting) == ("a", [])
