"""Clients that leave in any phase, read nothing, say nothing, or send much: others notice nothing.

The same on every link: WebSocket, QUIC, unix socket, and Positronic's sessions.
"""

import threading

import numpy as np
import pytest
from one_checkpoint import hold_sessions
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from raw_clients import RawPositronic, RawQuic, RawUnix, RawWebsocket, frame
from served_slot import QuicServer, UnixServer, WebsocketServer, get, wait_until
from server_fakes import SPEC, WAIT, FakePlanner, FakePolicy

from flash_transport import WebsocketPolicy, jpeg_message, unpackb
from openpi_flash_models.policy.policy_protocol import ActionResult
from openpi_flash_server.positronic.codecs import ChunkTiming
from openpi_flash_server.slot.encoded_images import decode_images
from openpi_flash_server.slot.life import Stage
from openpi_flash_server.transports.websocket import listener

# openpi's client connects in the way of older websockets
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")

LINKS = ["websocket", "quic", "unix", "positronic"]
ASK = {"state": np.ones(2), "prompt": "fold"}
IMAGE = np.zeros((8, 8, 3), np.uint8)
ASK_POSITRONIC = {
    "robot_state.ee_pose": np.array([0.1, 0.2, 0.3, 1.0, 0.0, 0.0, 0.0]),
    "grip": 0.25,
    "image.wrist": IMAGE,
    "image.exterior": IMAGE,
    "task": "fold",
}


class AnyRobot(FakePolicy):
    """Answers the observations of every link; with `rows` of 80 bytes or more on the wire."""

    def __init__(self, *, gate=None, rows=3):
        super().__init__(gate=gate)
        self._actions = np.zeros((rows, 8))
        # no rotation
        self._actions[:, 3] = 1.0

    def infer(self, observation, controls=None):
        super().infer({"state": np.ones(2)}, controls)
        return ActionResult(self._actions, 1.0)


LARGE = 40_000
"""Rows of an answer that no link's buffers hold: 10 MB as Positronic gets it."""
LARGE_OF = dict.fromkeys(LINKS, 200_000) | {"positronic": LARGE}


class Link:
    """A server behind one link, and clients of it.

    Args:
        kind: of `LINKS`.
        directory: for a certificate.
    """

    def __init__(self, kind, directory):
        self.kind = kind
        self.message = ASK_POSITRONIC if kind == "positronic" else ASK
        self._directory = directory
        self.server = None
        self._raw = []

    def serve(self, policy, **options):
        if self.kind == "quic":
            self.server = QuicServer(self._directory, policy, **options)
        elif self.kind == "unix":
            self.server = UnixServer(policy, **options)
        else:
            self.server = WebsocketServer(policy, **options)
            hold_sessions(self.server, timing=ChunkTiming(horizon_sec=1e6))
        return self.server

    def client(self):
        """A client of bytes, not yet connected."""
        if self.kind == "quic":
            client = RawQuic(self.server.port)
        elif self.kind == "unix":
            client = RawUnix(self.server.path)
        else:
            make = RawPositronic if self.kind == "positronic" else RawWebsocket
            client = make(self.server.port)
        self._raw.append(client)
        return client

    def vanish(self, client):
        self._raw.remove(client)
        client.vanish()

    def infer(self):
        """Asks as a well-behaved client does."""
        with self.server.connect() as client:
            return client.infer(ASK, WAIT)

    def close(self):
        for client in list(self._raw):
            self.vanish(client)
        if self.server is not None:
            self.server.close()


@pytest.fixture(params=LINKS)
def link(request, tmp_path):
    link = Link(request.param, tmp_path)
    yield link
    link.close()


def wait_until_nothing_is_left(server):
    slot = server.slot
    wait_until(lambda: not server.connections)
    wait_until(lambda: (len(slot._open), len(slot._sessions._uses)) == (0, 0))
    assert (slot.waiting, slot.unhealthy_because) == (0, None)


def errors(caplog):
    return [record for record in caplog.records if record.levelname == "ERROR"]


def leave_before_the_handshake(link, client):
    client.begin_handshake()


def leave_when_it_is_let_in(link, client):
    client.open()


def leave_within_the_request(link, client):
    client.open()
    client.ask_in_part(link.message)


def leave_within_the_inference(link, client):
    client.open()
    client.ask(link.message)
    assert link.server.policy.entered.acquire(timeout=WAIT)


@pytest.mark.parametrize(
    "leave",
    [
        leave_before_the_handshake,
        leave_when_it_is_let_in,
        leave_within_the_request,
        leave_within_the_inference,
    ],
)
def test_a_client_that_vanishes_leaves_nothing_behind(link, caplog, leave):
    server = link.serve(AnyRobot(gate=threading.Event()))
    client = link.client()
    leave(link, client)
    link.vanish(client)
    server.policy.gate.set()
    assert link.infer()["actions"].shape == (3, 8)
    wait_until_nothing_is_left(server)
    assert not errors(caplog)


def test_the_request_of_a_client_that_vanished_while_it_waited_is_not_run(
    link, caplog, in_background
):
    server = link.serve(AnyRobot(gate=threading.Event()))
    client = link.client()
    client.open()
    ahead = in_background(link.infer)
    assert server.policy.entered.acquire(timeout=WAIT)
    client.ask(link.message)
    server.wait_until_waiting(1)
    link.vanish(client)
    wait_until(lambda: server.slot.waiting == 0)
    server.policy.gate.set()
    assert ahead.result(WAIT)["actions"].shape == (3, 8)
    assert link.infer()["actions"].shape == (3, 8)
    assert len(server.policy.seen) == 2
    wait_until_nothing_is_left(server)
    assert not errors(caplog)


@pytest.mark.parametrize("is_ahead", [False, True], ids=["at once", "ahead"])
# Positronic's clients send arrays
@pytest.mark.parametrize("link", LINKS[:3], indirect=True)
def test_a_client_that_vanishes_while_its_images_are_decoded_harms_nobody(
    link, caplog, in_background, monkeypatch, is_ahead
):
    decoding, go_on = threading.Event(), threading.Event()

    def slow(message):
        decoding.set()
        assert go_on.wait(WAIT)
        return decode_images(message)

    monkeypatch.setattr("openpi_flash_server.slot.decoding.decode_images", slow)
    server = link.serve(AnyRobot(gate=threading.Event()))
    client = link.client()
    client.open()
    if is_ahead:
        ahead = in_background(link.infer)
        assert server.policy.entered.acquire(timeout=WAIT)
    client.ask({**ASK, "image": jpeg_message(IMAGE)})
    assert decoding.wait(WAIT)
    link.vanish(client)
    if is_ahead:
        wait_until(lambda: server.slot.waiting == 0)
    go_on.set()
    server.policy.gate.set()
    assert link.infer()["actions"].shape == (3, 8)
    if is_ahead:
        assert ahead.result(WAIT)["actions"].shape == (3, 8)
        assert len(server.policy.seen) == 2
    wait_until_nothing_is_left(server)
    assert not errors(caplog)


def test_a_client_that_vanishes_while_it_is_planned_for_costs_no_action(link, caplog):
    planner = FakePlanner(gate=threading.Event())
    server = link.serve(AnyRobot(), planner=planner)
    client = link.client()
    client.open()
    client.ask(link.message)
    assert planner.entered.acquire(timeout=WAIT)
    link.vanish(client)
    wait_until(lambda: server.slot.waiting == 0)
    planner.gate.set()
    assert link.infer()["subtask"]["text"] == "step 2 of fold"
    assert len(server.policy.seen) == 1
    wait_until_nothing_is_left(server)
    assert not errors(caplog)


def test_a_client_that_vanishes_within_its_answer_leaves_nothing_behind(link, caplog):
    server = link.serve(AnyRobot(rows=LARGE_OF[link.kind]))
    client = link.client()
    client.open()
    client.ask(link.message)
    client.take(200_000)
    link.vanish(client)
    assert len(link.infer()["actions"]) == LARGE_OF[link.kind]
    wait_until_nothing_is_left(server)
    assert not errors(caplog)


@pytest.mark.parametrize("phase", ["runs", "waits"])
def test_a_client_that_vanishes_while_the_server_drains_does_not_hold_it_up(
    link, caplog, in_background, phase
):
    server = link.serve(AnyRobot(gate=threading.Event()))
    client = link.client()
    client.open()
    if phase == "waits":
        ahead = in_background(link.infer)
        assert server.policy.entered.acquire(timeout=WAIT)
        client.ask(link.message)
        server.wait_until_waiting(1)
    else:
        client.ask(link.message)
        assert server.policy.entered.acquire(timeout=WAIT)
    server.is_closed = True

    def drain():
        server.transport.stop_accepting()
        # longer than the test: nothing may wait for a client that is gone
        was_run = server.slot.close(grace=10 * WAIT)
        server.transport.close(grace=10 * WAIT)
        return was_run

    drained = in_background(drain)
    wait_until(lambda: server.slot.stage is Stage.DRAINING)
    link.vanish(client)
    if phase == "waits":
        wait_until(lambda: server.slot.waiting == 0)
    server.policy.gate.set()
    assert drained.result(WAIT)
    if phase == "waits":
        assert ahead.result(WAIT)["actions"].shape == (3, 8)
    assert len(server.policy.seen) == 1
    assert not errors(caplog)


def test_a_client_that_never_reads_holds_up_nobody(link):
    server = link.serve(AnyRobot(rows=LARGE_OF[link.kind]))
    deaf = link.client()
    deaf.open()
    # as many as the link takes
    deaf.ask_for_ever({**link.message, "pad": bytes(1_000_000)})
    for _ in range(2):
        assert len(link.infer()["actions"]) == LARGE_OF[link.kind]
    assert server.slot.unhealthy_because is None
    if link.kind in ("websocket", "positronic"):
        # the server reads the next request when the answer is out
        assert len(server.policy.seen) <= 2 + 3
    link.vanish(deaf)
    wait_until_nothing_is_left(server)


def test_a_client_that_never_reads_does_not_hold_up_the_end_beyond_its_time(link, in_background):
    server = link.serve(AnyRobot(rows=LARGE_OF[link.kind]))
    deaf = link.client()
    deaf.open()
    deaf.stop_reading()
    deaf.ask(link.message)
    assert server.policy.entered.acquire(timeout=WAIT)
    server.is_closed = True
    assert server.slot.close(grace=WAIT)
    closing = in_background(lambda: server.transport.close(grace=0.1))
    assert closing.result(WAIT) is False


@pytest.mark.parametrize("client_of", [RawWebsocket, RawPositronic])
def test_a_simulator_that_answers_no_ping_for_minutes_keeps_its_connection(
    serve_websocket, client_of
):
    assert listener.LONGEST_SILENCE >= 600
    server = serve_websocket(AnyRobot(), ping_interval=0.01)
    hold_sessions(server)
    silent = client_of(server.port)
    silent.open()
    assert silent.next_frame()[0] == 0x9
    # it does not answer, as a client whose interpreter a simulator holds
    silent.ask(ASK_POSITRONIC if client_of is RawPositronic else ASK)
    opcode = 0x9
    while opcode == 0x9:
        opcode, payload = silent.next_frame()
    assert opcode == 0x2
    assert set(unpackb(payload)) & {"actions", "result"}
    silent.vanish()


@pytest.mark.parametrize("client_of", [RawWebsocket, RawPositronic])
def test_a_client_that_is_gone_is_noticed_in_the_end(serve_websocket, client_of):
    server = serve_websocket(AnyRobot(), ping_interval=0.01, longest_silence=1.0)
    hold_sessions(server)
    gone = client_of(server.port)
    gone.open()
    assert [gone.next_frame()[0] for _ in range(2)] == [0x9, 0x8]
    gone.vanish()
    wait_until_nothing_is_left(server)


@pytest.mark.parametrize("kind", ["openpi", "websocket", "quic", "unix"])
def test_messages_far_above_a_megabyte_arrive_whole_both_ways(tmp_path, kind):
    class Echo(FakePolicy):
        spec = SPEC

        def infer(self, observation, controls=None):
            result = super().infer(observation, controls)
            return ActionResult(result.actions, 1.0, extra={"echo": observation["image"]})

    if kind == "quic":
        server = QuicServer(tmp_path, Echo())
    else:
        server = UnixServer(Echo()) if kind == "unix" else WebsocketServer(Echo())
    client = (
        WebsocketClientPolicy("127.0.0.1", server.port) if kind == "openpi" else server.connect()
    )
    try:
        image = np.random.default_rng(7).integers(0, 256, (1080, 1920, 3), np.uint8)
        answer = client.infer({"state": np.ones(2), "image": image})
        np.testing.assert_array_equal(answer["echo"], image)
    finally:
        client._ws.close() if kind == "openpi" else client.close()
        server.close()


def test_a_message_of_which_the_rest_never_comes_costs_the_others_nothing(serve_websocket):
    server = serve_websocket(AnyRobot())
    half = RawWebsocket(server.port)
    half.open()
    half.socket.sendall(frame(bytes(2_000_000))[:1_500_000])
    with WebsocketPolicy("127.0.0.1", server.port) as client:
        assert client.infer(ASK, WAIT)["actions"].shape == (3, 8)
    assert get(server) == (200, "OK\n")
    half.vanish()
    wait_until_nothing_is_left(server)
