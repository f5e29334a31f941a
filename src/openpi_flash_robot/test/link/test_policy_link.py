"""policy_link.py: one worker thread, one request, and every loss reported. No sleeps: events."""

import inspect
import itertools
import queue
import threading

import pytest

from flash_transport import (
    AuthenticationFailed,
    CallStats,
    CodecError,
    Disconnected,
    FlashTransportPolicy,
    ImageError,
    InferenceFuture,
    LinkEstimate,
    ServerError,
    Superseded,
    Timeout,
    WebsocketPolicy,
)
from flash_transport.first_actions import FirstActions
from openpi_flash_robot.link.events import (
    FailureKind,
    FirstActionsCame,
    LinkDown,
    LinkUp,
    RequestCost,
    RequestDone,
    RequestFailure,
    ResetFailed,
    TransportUsed,
)
from openpi_flash_robot.link.policy_link import (
    FIRST_DELAY_S,
    BuiltRequest,
    Job,
    PolicyLink,
    backoff,
)
from openpi_flash_robot.link.transport import PolicyConnection

WAIT = 10.0


class FakePolicy:
    """A policy whose answers a test hands over one by one."""

    link_estimate = None

    def __init__(self, metadata=None):
        self.metadata = metadata or {"model": "fake"}
        self.requests = queue.Queue()
        self.answers = queue.Queue()
        self.resets = queue.Queue()
        self.reset_error = None
        self.closed = threading.Event()

    def get_server_metadata(self):
        return self.metadata

    def infer_with_stats(self, observation, timeout=None):
        self.requests.put((observation, timeout))
        answer = self.answers.get(timeout=WAIT)
        if isinstance(answer, Exception):
            raise answer
        return answer, CallStats(1.5, 20.0, 300, 40, 0)

    def submit(self, observation, timeout=None, *, first_actions=None):
        """Answers `(first, answer)` in two steps; anything else in one."""
        future = InferenceFuture(first=FirstActions(first_actions, dict))
        self.requests.put((observation, timeout, first_actions))

        def deliver():
            answer = self.answers.get(timeout=WAIT)
            if isinstance(answer, tuple):
                future._deliver_first(answer[0])
                answer = answer[1].get(timeout=WAIT)
            if isinstance(answer, Exception):
                future._fail(answer)
            else:
                future._deliver_first(answer)
                future._deliver(answer, CallStats(1.5, 20.0, 300, 40, 0, 5.0))

        threading.Thread(target=deliver, daemon=True).start()
        return future

    def reset(self):
        self.resets.put(True)
        if self.reset_error is not None:
            raise self.reset_error

    def close(self):
        self.closed.set()
        self.answers.put(Disconnected("closed"))


class Connector:
    """Gives out the next policy, or raises the next error."""

    def __init__(self, *outcomes):
        self.outcomes = iter(outcomes)

    def __call__(self):
        outcome = next(self.outcomes, None)
        if outcome is None:
            threading.Event().wait(0.01)
            raise Disconnected("nobody there")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def start():
    links = []

    def start(*outcomes):
        woken = threading.Semaphore(0)
        link = PolicyLink(
            Connector(*outcomes), wake=woken.release, delays=lambda: itertools.repeat(0.001)
        )
        waiting = []

        def next_event():
            while not waiting:
                assert woken.acquire(timeout=WAIT), "no event came"
                waiting.extend(link.events())
            return waiting.pop(0)

        link.next_event = next_event
        link.start()
        links.append(link)
        return link

    yield start
    for link in links:
        link.close()
        assert not link._thread.is_alive()


def job(number=1, request=None):
    content = {"n": number} if request is None else request
    return Job(number, lambda _: BuiltRequest(content), 0.5)


def test_a_connection_reports_the_servers_metadata(start):
    event = start(FakePolicy({"robot": "arm"})).next_event()
    assert isinstance(event, LinkUp)
    assert event.metadata == {"robot": "arm"}


def test_a_request_is_built_sent_and_answered(start):
    policy = FakePolicy()
    link = start(policy)
    link.next_event()
    link.send(job(7, {"state": 1}))
    assert policy.requests.get(timeout=WAIT) == ({"state": 1}, 0.5)
    policy.answers.put({"actions": 2})
    event = link.next_event()
    assert isinstance(event, RequestDone)
    assert (event.request_id, event.result) == (7, {"actions": 2})
    assert 0 <= event.preprocess_s <= event.total_s
    assert event.cost == RequestCost(serialize_s=0.0015, bytes_up=300, bytes_down=40)


def test_a_request_is_built_for_the_link_as_it_is_and_its_cost_says_how(start):
    policy = FakePolicy()
    policy.link_estimate = LinkEstimate(0.06, 20e6, 0.004)
    link = start(policy)
    link.next_event()
    seen = queue.Queue()

    def build(estimate):
        seen.put(estimate)
        return BuiltRequest({}, 92, "images are sent as JPEG")

    link.send(Job(1, build, 0.5))
    policy.answers.put({})
    cost = link.next_event().cost
    assert seen.get(timeout=WAIT) == policy.link_estimate
    assert (cost.jpeg_quality, cost.link_rate, cost.link_queue) == (92, 20e6, 0.004)
    assert cost.image_news == "images are sent as JPEG"


def test_requests_are_built_on_the_worker_thread(start):
    link = start(FakePolicy())
    link.next_event()
    names = queue.Queue()

    def build(_):
        names.put(threading.current_thread().name)
        raise ImageError("no picture")

    link.send(Job(1, build, 0.5))
    assert names.get(timeout=WAIT) == "policy_link"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (Timeout("no answer within 0.5 s"), FailureKind.TIMEOUT, "no answer within 0.5 s"),
        (Superseded("newer wins"), FailureKind.SUPERSEDED, "newer wins"),
        (
            ServerError("bad_request", "state is missing"),
            FailureKind.SERVER,
            "the server answered bad_request: state is missing",
        ),
        (
            ServerError("deadline_exceeded", "too late"),
            FailureKind.TIMEOUT,
            "the server answered deadline_exceeded: too late",
        ),
        (CodecError("cannot pack object"), FailureKind.PREPARE, "cannot pack object"),
    ],
)
def test_a_failed_request_is_reported_and_the_connection_is_kept(start, error, kind, message):
    policy = FakePolicy()
    link = start(policy)
    link.next_event()
    link.send(job())
    policy.answers.put(error)
    assert link.next_event() == RequestFailure(1, kind, message)
    link.send(job(2))
    policy.answers.put({})
    assert link.next_event().request_id == 2
    assert not policy.closed.is_set()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImageError("encoding 16UC1 is not known"), "encoding 16UC1 is not known"),
        (KeyError("scene"), "KeyError: 'scene'"),
    ],
)
def test_a_request_that_cannot_be_built_is_reported_and_never_kills_the_thread(
    start, error, message
):
    policy = FakePolicy()
    link = start(policy)
    link.next_event()

    def build(_):
        raise error

    link.send(Job(1, build, 0.5))
    assert link.next_event() == RequestFailure(1, FailureKind.PREPARE, message)
    link.send(job(2))
    policy.answers.put({})
    assert isinstance(link.next_event(), RequestDone)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Disconnected("the server went away"), "the server went away"),
        (RuntimeError("surprise"), "RuntimeError: surprise"),
    ],
)
def test_a_lost_connection_is_reported_closed_and_made_again(start, error, message):
    first, second = FakePolicy(), FakePolicy({"model": "second"})
    link = start(first, second)
    link.next_event()
    link.send(job())
    first.answers.put(error)
    assert link.next_event() == RequestFailure(1, FailureKind.LINK, message)
    assert link.next_event() == LinkDown(message)
    assert link.next_event().metadata == {"model": "second"}
    assert first.closed.is_set()
    link.send(job(2))
    second.answers.put({})
    assert link.next_event().request_id == 2


def test_a_server_that_is_not_there_yet_is_tried_until_it_is(start):
    link = start(Disconnected("refused"), Disconnected("refused"), FakePolicy())
    assert link.next_event() == LinkDown("refused")
    assert link.next_event() == LinkDown("refused")
    assert isinstance(link.next_event(), LinkUp)


def test_a_wrong_key_says_that_a_human_is_needed_and_is_tried_again(start):
    link = start(AuthenticationFailed("wrong api key"), FakePolicy())
    event = link.next_event()
    assert (event.needs_human, event.message.partition(";")[0]) == (True, "wrong api key")
    assert isinstance(link.next_event(), LinkUp)


def test_a_policy_that_found_another_server_by_itself_is_introduced_before_its_answer(start):
    policy = FakePolicy()
    link = start(policy)
    link.next_event()
    link.send(job())
    policy.requests.get(timeout=WAIT)
    policy.metadata = {"model": "other"}
    policy.answers.put({})
    event = link.next_event()
    assert isinstance(event, LinkUp)
    assert event.metadata == {"model": "other"}
    assert isinstance(link.next_event(), RequestDone)


def test_reset_reaches_the_policy(start):
    policy = FakePolicy()
    link = start(policy)
    link.next_event()
    link.reset()
    assert policy.resets.get(timeout=WAIT)


def test_a_reset_that_fails_is_reported_and_a_lost_link_is_a_lost_link(start):
    policy = FakePolicy()
    link = start(policy, FakePolicy())
    link.next_event()
    policy.reset_error = ServerError("internal", "no")
    link.reset()
    assert link.next_event() == ResetFailed("the server answered internal: no")
    policy.reset_error = Disconnected("gone")
    link.reset()
    assert link.next_event() == LinkDown("gone")
    assert isinstance(link.next_event(), LinkUp)


def test_reconnect_makes_a_new_connection_and_reports_who_answers(start):
    first, second = FakePolicy(), FakePolicy()
    link = start(first, second)
    link.next_event()
    link.reconnect()
    assert isinstance(link.next_event(), LinkUp)
    assert first.closed.is_set()
    link.send(job(2))
    second.answers.put({})
    assert link.next_event().request_id == 2


def test_close_gives_up_the_request_on_its_way(start):
    policy = FakePolicy()
    link = start(policy)
    link.next_event()
    link.send(job())
    policy.requests.get(timeout=WAIT)
    link.close()
    assert policy.closed.is_set()
    assert link.events() == []


def test_close_ends_a_link_that_never_found_a_server(start):
    link = start(Disconnected("refused"))
    link.next_event()
    link.close()


def test_a_link_that_was_never_started_can_be_closed():
    PolicyLink(Connector(), wake=lambda: None, delays=lambda: itertools.repeat(1.0)).close()


def test_first_actions_are_an_event_of_their_own_before_the_answer(start):
    policy, rest = FakePolicy(), queue.Queue()
    link = start(policy)
    link.next_event()
    link.send(Job(7, lambda _: BuiltRequest({"state": 1}), 0.5, first_actions=2))
    assert policy.requests.get(timeout=WAIT) == ({"state": 1}, 0.5, 2)
    policy.answers.put(({"actions": "first"}, rest))
    event = link.next_event()
    assert isinstance(event, FirstActionsCame)
    assert (event.request_id, event.result) == (7, {"actions": "first"})
    rest.put({"actions": "whole"})
    event = link.next_event()
    assert isinstance(event, RequestDone)
    assert event.result == {"actions": "whole"}
    assert event.cost == RequestCost(0.0015, 300, 40)


def test_an_error_after_first_actions_is_the_requests(start):
    policy, rest = FakePolicy(), queue.Queue()
    link = start(policy)
    link.next_event()
    link.send(Job(7, lambda _: BuiltRequest({}), 0.5, first_actions=2))
    policy.answers.put(({"actions": "first"}, rest))
    assert isinstance(link.next_event(), FirstActionsCame)
    rest.put(ServerError("internal", "boom"))
    event = link.next_event()
    assert isinstance(event, RequestFailure)
    assert event.kind is FailureKind.SERVER
    policy.answers.put(Timeout("late"))
    link.send(Job(8, lambda _: BuiltRequest({}), 0.5, first_actions=2))
    event = link.next_event()
    assert (event.request_id, event.kind) == (8, FailureKind.TIMEOUT)


def test_pauses_double_up_to_the_longest_and_are_spread():
    delays = list(itertools.islice(backoff(1.0, seed=1), 8))
    for index, delay in enumerate(delays):
        full = min(FIRST_DELAY_S * 2**index, 1.0)
        assert full / 2 <= delay <= full
    assert delays != list(itertools.islice(backoff(1.0, seed=2), 8))


def test_the_transport_of_a_connection_that_chooses_is_news_when_it_changes(start):
    policy = FakePolicy()
    policy.transport, policy.transport_reason = "quic", "it answered first"
    link = start(policy)
    assert link.next_event() == TransportUsed("quic", "it answered first", is_change=False)
    assert isinstance(link.next_event(), LinkUp)
    for transport in ("quic", "websocket"):
        policy.transport, policy.transport_reason = transport, "over QUIC silence"
        policy.answers.put({"actions": 1})
        link.send(Job(1, lambda _: BuiltRequest({}), 1.0))
        if transport == "websocket":
            changed = TransportUsed("websocket", "over QUIC silence", is_change=True)
            assert link.next_event() == changed
        assert isinstance(link.next_event(), RequestDone)


PROTOCOL_METHODS = [
    name
    for name, member in vars(PolicyConnection).items()
    if not name.startswith("_") and callable(member)
]


@pytest.mark.parametrize("name", PROTOCOL_METHODS)
@pytest.mark.parametrize(
    "implementation", [FakePolicy, FlashTransportPolicy, WebsocketPolicy], ids=lambda c: c.__name__
)
def test_the_fake_and_the_clients_take_the_arguments_of_the_protocol(name, implementation):
    def arguments(owner):
        parameters = inspect.signature(getattr(owner, name)).parameters.values()
        return [(parameter.name, parameter.kind, parameter.default) for parameter in parameters]

    assert arguments(implementation) == arguments(PolicyConnection)
