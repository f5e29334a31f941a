"""Encoded images of the next batch are decoded while the device is busy with the one before."""

import gc
import threading
import weakref

import numpy as np
import pytest
from server_fakes import CLIENT, WAIT, FakeBatchPolicy, FakePolicy, Inbox, make_work, open_with

from flash_transport import jpeg_message
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.runners.decode_ahead import DecodeAhead
from openpi_flash_server.runners.own_thread import OwnThread
from openpi_flash_server.slot.answer import Failure
from openpi_flash_server.slot.encoded_images import decode_images
from openpi_flash_server.slot.slot import Slot

IMAGE = jpeg_message(np.full((48, 64, 3), 90, np.uint8))
BROKEN = IMAGE | {"data": b"\xff\xd8"}
AHEAD = "slot-action-decode"


class Decoder:
    """Decodes for the slots of a test, and remembers which frame on which thread."""

    def __init__(self):
        self.threads = {}
        self.frames = []
        self.begun = threading.Semaphore(0)
        self.done = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.before = lambda: None

    def __call__(self, message):
        self.frames.append(message["frame"])
        self.threads[message["frame"]] = threading.current_thread().name
        self.begun.release()
        assert self.gate.wait(WAIT)
        try:
            self.before()
            return decode_images(message)
        finally:
            self.done.release()


@pytest.fixture
def decoder(monkeypatch):
    decoder = Decoder()
    monkeypatch.setattr("openpi_flash_server.slot.decoding.decode_images", decoder)
    yield decoder
    decoder.gate.set()


class Robots:
    """Clients of one slot, whose policy waits until it is let go."""

    def __init__(self, policy, **options):
        self.policy = policy
        self.slot = Slot("action", **options)
        open_with(self.slot, ActionHandler(policy))

    def send(self, frame, session="robot", *, image=IMAGE, is_cancelled=lambda: False, **more):
        inbox = Inbox()
        self.slot.receive(
            lambda: {"state": np.zeros(2), "image": image, "frame": frame, **more},
            client=CLIENT,
            session=session,
            respond=inbox,
            is_cancelled=is_cancelled,
        )
        return inbox

    def occupy_the_device(self):
        """Sends a request without encoded images, which runs until `let_go`."""
        inbox = self.send("first", "other", image=None)
        assert self.policy.entered.acquire(timeout=WAIT)
        return inbox

    def let_go(self):
        if self.policy.gate is not None:
            self.policy.gate.set()

    @property
    def inferred(self):
        return [seen["frame"] for seen in self.policy.seen]


@pytest.fixture
def robots(decoder):
    """`robots(policy, ...)` are clients of a slot until the test ends."""
    made = []

    def make(policy=None, **options):
        made.append(Robots(policy or FakePolicy(gate=threading.Event()), **options))
        return made[-1]

    yield make
    decoder.gate.set()
    for one in made:
        one.let_go()
        assert one.slot.close(grace=WAIT)


def test_the_next_request_is_decoded_while_the_policy_runs(robots, decoder):
    clients = robots()
    clients.occupy_the_device()
    answer = clients.send(1)
    assert decoder.done.acquire(timeout=WAIT)
    assert clients.inferred == ["first"]
    assert decoder.threads == {1: AHEAD}
    clients.let_go()
    assert "actions" in answer.wait().result
    # what was decoded is what is inferred, and nothing is decoded twice
    assert clients.policy.seen[1]["image"].shape == (48, 64, 3)
    assert decoder.frames == [1]


def test_an_idle_device_decodes_at_once_and_starts_no_other_thread(robots, decoder):
    clients = robots(FakePolicy())
    clients.send(1).wait()
    assert decoder.threads == {1: "slot-action"}
    assert AHEAD not in {thread.name for thread in threading.enumerate()}


def test_a_newer_frame_takes_the_place_of_a_decoded_one(robots, decoder):
    clients = robots()
    clients.occupy_the_device()
    older = clients.send(1)
    assert decoder.done.acquire(timeout=WAIT)
    newer = clients.send(2)
    assert older.wait().code == "superseded"
    assert decoder.done.acquire(timeout=WAIT)
    clients.let_go()
    assert "actions" in newer.wait().result
    assert clients.inferred == ["first", 2]
    assert decoder.frames == [1, 2]


def test_a_frame_that_is_superseded_while_it_is_decoded_harms_nobody(robots, decoder):
    clients = robots()
    clients.occupy_the_device()
    decoder.gate.clear()
    older = clients.send(1)
    assert decoder.begun.acquire(timeout=WAIT)
    middle, newest = clients.send(2), clients.send(3)
    decoder.gate.set()
    clients.let_go()
    assert "actions" in newest.wait().result
    assert [inbox.wait().code for inbox in (older, middle)] == ["superseded"] * 2
    assert clients.inferred == ["first", 3]
    # the frame between was never next when the thread was free
    assert decoder.frames == [1, 3]


@pytest.mark.parametrize("end", ["cancelled", "late"])
def test_a_decoded_request_that_nobody_wants_costs_the_device_nothing(robots, decoder, end):
    now = [100.0]
    clients = robots(clock=lambda: now[0])
    clients.occupy_the_device()
    gone = []
    unwanted = clients.send(1, deadline_ms=50, is_cancelled=lambda: bool(gone))
    assert decoder.done.acquire(timeout=WAIT)
    if end == "cancelled":
        gone.append(True)
    else:
        now[0] += 0.051
    clients.let_go()
    wanted = clients.send(2, "third")
    assert isinstance(unwanted.wait(), Failure)
    assert "actions" in wanted.wait().result
    assert clients.inferred == ["first", 2]


@pytest.mark.parametrize(("policy", "most"), [(FakePolicy, 1), (FakeBatchPolicy, 8)])
def test_one_batch_is_decoded_ahead_and_no_more(robots, decoder, monkeypatch, policy, most):
    expected = []
    expect = DecodeAhead.expect

    def watched(self, works):
        expected.append([work.observation["frame"] for work in works])
        expect(self, works)

    monkeypatch.setattr(DecodeAhead, "expect", watched)
    clients = robots(policy(gate=threading.Event()))
    clients.occupy_the_device()
    answers = [clients.send(frame, f"robot {frame}") for frame in range(10)]
    assert expected[-1] == list(range(most))
    for _ in range(most):
        assert decoder.done.acquire(timeout=WAIT)
    assert decoder.frames == list(range(most))
    clients.let_go()
    for answer in answers:
        answer.wait()
    assert max(map(len, expected)) == most
    assert sorted(decoder.frames) == list(range(10))


def test_a_decoding_under_way_is_waited_for_and_not_repeated(robots, decoder):
    clients = robots()
    first = clients.occupy_the_device()
    decoder.gate.clear()
    answer = clients.send(1)
    assert decoder.begun.acquire(timeout=WAIT)
    clients.let_go()
    first.wait()
    decoder.gate.set()
    assert "actions" in answer.wait().result
    assert (decoder.frames, decoder.threads) == ([1], {1: AHEAD})


def test_a_request_that_was_decoded_ahead_runs_on_the_policy_that_takes_over(robots, decoder):
    clients = robots()
    clients.occupy_the_device()
    answer = clients.send(1)
    assert decoder.done.acquire(timeout=WAIT)
    other = FakePolicy()
    former = clients.slot.replace(OwnThread("other", ActionHandler(other)))
    assert "actions" in answer.wait().result
    assert other.seen[0]["image"].shape == (48, 64, 3)
    clients.let_go()
    assert former.close(WAIT)
    assert AHEAD not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("error", [None, RuntimeError("out of memory")])
def test_an_image_that_cannot_be_decoded_fails_its_request_only(robots, decoder, error):
    clients = robots(FakeBatchPolicy(gate=threading.Event()))
    clients.occupy_the_device()
    if error is None:
        bad = clients.send(1, "bad", image=BROKEN)
    else:

        def fail():
            raise error

        decoder.before = fail
        bad = clients.send(1, "bad")
    assert decoder.done.acquire(timeout=WAIT)
    decoder.before = lambda: None
    good = clients.send(2, "good")
    clients.let_go()
    assert "actions" in good.wait().result
    code, message = (
        ("bad_request", "image: jpeg of 2 bytes")
        if error is None
        else ("internal", "RuntimeError: out of memory")
    )
    assert bad.wait().code == code
    assert bad.wait().message.startswith(message)
    assert clients.inferred == ["first", 2]


def test_the_stages_tell_what_was_decoded_and_add_up(robots, decoder):
    now = [100.0]
    clients = robots(clock=lambda: now[0])
    clients.occupy_the_device()

    def take_five_milliseconds():
        now[0] += 0.005

    decoder.before = take_five_milliseconds
    answer = clients.send(1)
    assert decoder.done.acquire(timeout=WAIT)
    now[0] += 0.020
    clients.let_go()
    timing = answer.wait().result["server_timing"]
    assert timing == pytest.approx(
        {"decode_ms": 5.0, "queue_ms": 20.0, "infer_ms": 0.0, "batch_size": 1}
    )


class Watched(dict):
    """An observation of which a test sees when nobody holds it any more."""


def watched_work(frame):
    work = make_work(Watched(state=np.zeros(2), image=IMAGE, frame=frame))
    return work, weakref.ref(work.observation)


def test_nothing_is_kept_of_works_that_are_no_longer_expected(decoder):
    ahead = DecodeAhead("decode", lambda: 0.0)
    work, observation = watched_work(1)
    ahead.expect([work])
    assert decoder.done.acquire(timeout=WAIT)
    other, _ = watched_work(2)
    ahead.expect([other])
    assert decoder.done.acquire(timeout=WAIT)
    del work
    gc.collect()
    assert observation() is None
    ahead.close()


def test_its_thread_ends_with_the_runner_and_later_works_are_ignored(decoder):
    runner = OwnThread("own", ActionHandler(FakePolicy()))
    runner.expect([watched_work(1)[0]])
    assert decoder.done.acquire(timeout=WAIT)
    assert runner.close(WAIT)
    runner.expect([watched_work(2)[0]])
    assert "own-decode" not in {thread.name for thread in threading.enumerate()}
    assert decoder.frames == [1]


def test_a_batch_in_line_is_decoded_while_another_one_runs(decoder):
    policy = FakePolicy(gate=threading.Event())
    runner, ran = OwnThread("own", ActionHandler(policy)), threading.Semaphore(0)
    runner.start([make_work()], lambda _: ran.release())
    assert policy.entered.acquire(timeout=WAIT)
    runner.start([watched_work(1)[0]], lambda _: ran.release())
    assert decoder.done.acquire(timeout=WAIT)
    assert decoder.threads == {1: "own-decode"}
    policy.gate.set()
    assert ran.acquire(timeout=WAIT)
    assert ran.acquire(timeout=WAIT)
    assert policy.seen[1]["image"].shape == (48, 64, 3)
    assert runner.close(WAIT)
