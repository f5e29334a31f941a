"""How a batch becomes answers, and the thread that runs them in order."""

import threading

import pytest
from server_fakes import WAIT, make_work

from openpi_flash_models.errors import ObservationError
from openpi_flash_server.runners.own_thread import OwnThread
from openpi_flash_server.slot.answer import ErrorCode, Reply
from openpi_flash_server.slot.decoding import Decoding
from openpi_flash_server.slot.runner import run_batch


class Batches:
    """A handler of batches that remembers what it was given; a work may hold its error."""

    max_batch = 4

    def __init__(self):
        self.calls = []

    def batch_key(self, work):
        return work.mode

    def handle(self, work):
        (result,) = self.handle_batch([work])
        if isinstance(result, BaseException):
            raise result
        return result

    def handle_batch(self, works):
        names = [work.observation["name"] for work in works]
        self.calls.append(names)
        return [
            work.observation.get("error") or {"name": work.observation["name"]} for work in works
        ]

    def reset(self, session):
        self.calls.append(f"reset {session}")


def clock():
    return 0.0


def run(handler, works):
    decoded = [Decoding(one.observation, clock).result() for one in works]
    return run_batch(handler, works, decoded, clock)


def work(name, **more):
    return make_work({"name": name, **more})


def test_a_batch_is_one_call_and_each_work_gets_its_answer():
    handler = Batches()
    ran = run(handler, [work("a"), work("b")])
    assert handler.calls == [["a", "b"]]
    assert [answer.result["name"] for answer in ran.answers] == ["a", "b"]


def test_an_error_of_one_work_is_the_answer_to_that_one_only():
    works = [work("a"), work("b", error=ObservationError("state", "missing")), work("c")]
    first, refused, last = run(Batches(), works).answers
    assert isinstance(first, Reply)
    assert isinstance(last, Reply)
    assert (refused.code, refused.message) == (ErrorCode.BAD_REQUEST, "state: missing")


def test_an_image_that_cannot_be_decoded_fails_its_work_and_the_rest_runs():
    handler = Batches()
    broken = work("b", wrist={"__image__": "jpeg", "data": b"\xff\xd8"})
    answers = run(handler, [work("a"), broken, work("c")]).answers
    assert handler.calls == [["a", "c"]]
    assert [isinstance(answer, Reply) for answer in answers] == [True, False, True]
    assert answers[1].message.startswith("wrist: jpeg of 2 bytes")


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(1)])
def test_a_call_that_fails_fails_every_work_of_its_batch(error):
    class Failing(Batches):
        def handle_batch(self, works):
            raise error

    answers = run(Failing(), [work("a"), work("b")]).answers
    assert [answer.code for answer in answers] == [ErrorCode.INTERNAL] * 2
    assert answers[0].cause is error


def test_a_handler_that_loses_a_result_answers_none_of_its_batch():
    class Short(Batches):
        def handle_batch(self, works):
            return [{}]

    answers = run(Short(), [work("a"), work("b")]).answers
    assert [answer.message for answer in answers] == ["RuntimeError: 2 works gave 1 results"] * 2


def test_a_thread_keeps_the_order_of_batches_and_resets():
    handler, finished = Batches(), threading.Event()
    runner = OwnThread("own", handler)
    runner.start([work("a")], lambda ran: None)
    runner.reset("robot")
    runner.start([work("b"), work("c")], lambda ran: finished.set())
    assert finished.wait(WAIT)
    assert handler.calls == [["a"], "reset robot", ["b", "c"]]
    assert (runner.places, runner.max_batch) == (1, 4)
    assert runner.close(WAIT)


def test_a_reset_that_fails_is_logged_and_the_thread_goes_on(caplog):
    class Failing(Batches):
        def reset(self, session):
            raise RuntimeError("no such session")

    finished = threading.Event()
    runner = OwnThread("own", Failing())
    runner.reset("robot")
    runner.start([work("a")], lambda ran: finished.set())
    assert finished.wait(WAIT)
    assert "no such session" in caplog.text
    assert runner.close(WAIT)


def test_a_thread_that_still_runs_says_so_when_it_is_closed():
    running, go_on = threading.Event(), threading.Event()

    class Slow(Batches):
        def handle_batch(self, works):
            running.set()
            assert go_on.wait(WAIT)
            return super().handle_batch(works)

    runner = OwnThread("own", Slow())
    runner.start([work("a")], lambda ran: None)
    assert running.wait(WAIT)
    assert not runner.close(0.0)
    go_on.set()
    assert runner.close(WAIT)
