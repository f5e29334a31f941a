"""Which requests of a session give way to a newer one where they go side by side."""

import json
from pathlib import Path

import pytest

from flash_transport.aio.lines import Lines, Progress

CASES = json.loads((Path(__file__).parents[1] / "data" / "newest_wins.json").read_text())
"""The cases that every line of this repository keeps, the compiled ones and the server's too."""
ARM = "arm"


class Server:
    """Lines that keep the events of the cases; a request that is taken arrives at once.

    Requests that go side by side have no turns: the case says which one is taken.
    """

    def __init__(self):
        self.lines = Lines()
        self.sessions = {}

    @property
    def waiting(self):
        waits = (self.lines.requests(s, Progress.WAITS) for s in set(self.sessions.values()))
        return sorted(request for requests in waits for request in requests)

    def submit(self, event):
        self.sessions[event["request"]] = event["session"]
        assert self.lines.enter(event["session"], event["request"]) == event["superseded"]

    def take(self, event):
        request = event["started"]
        if request is None:
            assert self.waiting == []
        else:
            assert request in self.waiting
            assert self.lines.note(self.sessions[request], request, Progress.HAS_ARRIVED)

    def finish(self, event):
        self.lines.leave(self.sessions[event["request"]], event["request"])

    def cancel(self, event):
        self.finish(event)

    def wait_again(self, event):
        request = event["request"]
        stays = self.lines.note(self.sessions[request], request, Progress.WAITS)
        assert event["superseded"] == ([] if stays else [request])


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_newest_request_of_a_session_wins(case):
    assert set(case["needs"]) <= {"wait_again"}
    server = Server()
    for number, event in enumerate(case["events"]):
        getattr(server, event["do"])(event)
        assert server.waiting == sorted(event["waiting"]), f"event {number}"


def sent(lines, request):
    gone = lines.enter(ARM, request)
    assert lines.note(ARM, request, Progress.IS_SENT)
    return gone


def test_the_oldest_that_is_being_sent_stays_and_those_behind_it_give_way():
    lines = Lines()
    assert sent(lines, "a") == []
    assert sent(lines, "b") == []
    assert sent(lines, "c") == ["b"]
    assert lines.enter(ARM, "d") == ["c"]
    assert lines.requests(ARM, Progress.IS_SENT) == ["a"]


def test_the_next_one_is_the_oldest_when_the_first_has_arrived():
    lines = Lines()
    sent(lines, "a")
    lines.note(ARM, "a", Progress.HAS_ARRIVED)
    sent(lines, "b")
    assert sent(lines, "c") == []
    assert lines.enter(ARM, "d") == ["c"]


def test_a_session_without_requests_takes_no_room():
    lines = Lines()
    lines.enter(ARM, "a")
    lines.enter(ARM, "b")
    for request in ("a", "b", "b"):
        lines.leave(ARM, request)
    assert lines._lines == {}
    assert not lines.note(ARM, "b", Progress.IS_SENT)
