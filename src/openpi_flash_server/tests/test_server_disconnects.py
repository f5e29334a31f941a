"""Clients that leave, read nothing, say nothing, or send much: the others notice nothing."""

import socket
import struct
import threading

import numpy as np
import pytest
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from served_slot import QuicServer, WebsocketServer, get, wait_until
from server_fakes import SPEC, WAIT, FakePolicy
from websockets.protocol import State

from flash_transport import WebsocketPolicy, packb, unpackb
from openpi_flash_models.policy.policy_protocol import ActionResult
from openpi_flash_server.transports.websocket import listener

# openpi's client connects in the way of older websockets
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")

ASK = {"state": np.ones(2)}
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class LargeAnswers(FakePolicy):
    """Answers with 8 MB, more than the buffers of a connection hold."""

    def infer(self, observation, controls=None):
        result = super().infer(observation, controls)
        return ActionResult(result.actions, 1.0, extra={"pixels": np.zeros(8_000_000, np.uint8)})


def frame(payload):
    """A binary message of a client, unmasked by a mask of zeros."""
    return struct.pack("!BBQ", 0x82, 0x80 | 127, len(payload)) + bytes(4) + payload


class RawClient:
    """A WebSocket client that does what it is told, and answers no ping."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        self._received = b""

    def open(self):
        self.socket.sendall(HANDSHAKE)
        while b"\r\n\r\n" not in self._received:
            self._received += self.socket.recv(65536)
        self._received = self._received.partition(b"\r\n\r\n")[2]
        assert self.next_frame()[0] == 0x2

    def next_frame(self):
        """Opcode and payload."""
        first, second = self._take(2)
        length = second & 127
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
        return first & 15, self._take(length)

    def _take(self, count):
        while len(self._received) < count:
            received = self.socket.recv(65536)
            assert received, "the server closed the connection"
            self._received += received
        taken, self._received = self._received[:count], self._received[count:]
        return taken

    def send_for_ever(self, data):
        while True:
            self.socket.sendall(data)

    def reset(self):
        """Ends the connection at once, as that of a process that is killed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def leave_before_the_handshake(server, client):
    client.socket.sendall(HANDSHAKE[:40])


def leave_after_the_metadata(server, client):
    client.open()


def leave_within_a_message(server, client):
    client.open()
    client.socket.sendall(frame(packb(ASK))[:-10])


def leave_while_it_waits(server, client):
    client.open()
    server.ahead = threading.Thread(target=infer, args=(server,))
    server.ahead.start()
    assert server.policy.entered.acquire(timeout=WAIT)
    client.socket.sendall(frame(packb(ASK)))
    server.wait_until_waiting(1)


def leave_while_it_runs(server, client):
    client.open()
    client.socket.sendall(frame(packb(ASK)))
    assert server.policy.entered.acquire(timeout=WAIT)


def leave_within_the_answer(server, client):
    server.policy.gate.set()
    client.open()
    client.socket.sendall(frame(packb(ASK)))
    client._take(1_000_000)


def infer(server):
    with WebsocketPolicy("127.0.0.1", server.port) as client:
        return client.infer(ASK, WAIT)["actions"].tolist()


@pytest.mark.parametrize(
    "leave",
    [
        leave_before_the_handshake,
        leave_after_the_metadata,
        leave_within_a_message,
        leave_while_it_waits,
        leave_while_it_runs,
        leave_within_the_answer,
    ],
)
def test_a_client_that_vanishes_at_any_moment_leaves_nothing_behind(serve_websocket, caplog, leave):
    server = serve_websocket(LargeAnswers(gate=threading.Event()))
    client = RawClient(server.port)
    leave(server, client)
    client.reset()
    if leave is leave_while_it_waits:
        # the server sees it while another request runs
        open_ = server.transport._open
        wait_until(lambda: any(one.state is not State.OPEN for one in list(open_.values())))
    server.policy.gate.set()
    assert infer(server) == [[1.0, 1.0]] * 3
    if leave is leave_while_it_waits:
        server.ahead.join(WAIT)
        assert len(server.policy.seen) == 2
    wait_until(lambda: not server.transport._open)
    assert (server.slot.waiting, server.slot.unhealthy_because) == (0, None)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_client_that_never_reads_holds_up_nobody(serve_websocket):
    server = serve_websocket(LargeAnswers())
    deaf = RawClient(server.port)
    deaf.open()
    # as many as the connection takes: the server reads the next when the answer is out
    deaf.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        deaf.send_for_ever(frame(packb({"state": np.ones(2), "pad": bytes(1_000_000)})))
    for _ in range(3):
        assert infer(server) == [[1.0, 1.0]] * 3
    assert get(server) == (200, "OK\n")
    assert len(server.policy.seen) <= 3 + 3
    deaf.reset()
    wait_until(lambda: not server.transport._open)


def test_a_simulator_that_answers_no_ping_for_minutes_keeps_its_connection(serve_websocket):
    assert listener.LONGEST_SILENCE >= 600
    server = serve_websocket(ping_interval=0.01)
    silent = RawClient(server.port)
    silent.open()
    assert silent.next_frame()[0] == 0x9
    # it does not answer, as a client whose interpreter a simulator holds
    silent.socket.sendall(frame(packb(ASK)))
    opcode, payload = silent.next_frame()
    assert opcode == 0x2
    assert unpackb(payload)["actions"].shape == (3, 2)
    silent.reset()


def test_a_client_that_is_gone_is_noticed_in_the_end(serve_websocket):
    server = serve_websocket(ping_interval=0.01, longest_silence=0.05)
    gone = RawClient(server.port)
    gone.open()
    assert [gone.next_frame()[0] for _ in range(2)] == [0x9, 0x8]
    gone.reset()
    wait_until(lambda: not server.transport._open)


@pytest.mark.parametrize("kind", ["openpi", "websocket", "quic"])
def test_messages_far_above_a_megabyte_arrive_whole_both_ways(tmp_path, kind):
    class Echo(FakePolicy):
        spec = SPEC

        def infer(self, observation, controls=None):
            result = super().infer(observation, controls)
            return ActionResult(result.actions, 1.0, extra={"echo": observation["image"]})

    if kind == "quic":
        server = QuicServer(tmp_path, Echo())
        client = server.connect()
    else:
        server = WebsocketServer(Echo())
        make = WebsocketClientPolicy if kind == "openpi" else WebsocketPolicy
        client = make("127.0.0.1", server.port)
    try:
        image = np.random.default_rng(7).integers(0, 256, (1080, 1920, 3), np.uint8)
        answer = client.infer({"state": np.ones(2), "image": image})
        np.testing.assert_array_equal(answer["echo"], image)
    finally:
        client._ws.close() if kind == "openpi" else client.close()
        server.close()


def test_a_message_of_which_the_rest_never_comes_costs_the_others_nothing(serve_websocket):
    server = serve_websocket()
    half = RawClient(server.port)
    half.open()
    half.socket.sendall(frame(bytes(2_000_000))[:1_500_000])
    assert infer(server) == [[1.0, 1.0]] * 3
    half.reset()
    wait_until(lambda: not server.transport._open)
    assert infer(server) == [[1.0, 1.0]] * 3
