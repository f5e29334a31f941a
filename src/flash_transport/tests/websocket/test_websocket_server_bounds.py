"""What clients of the WebSocket port can take of the server's memory, and its end."""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import websockets.sync.client

from flash_transport import WebsocketPolicy, packb, unpackb
from flash_transport.websocket.connection import SUBPROTOCOL

MIB = 1 << 20
LARGEST = 8 * MIB
"""Bytes of a message that the server takes; all connections together have eight times that."""
OF_ALL = 8 * LARGEST
OWN = LARGEST // 16
"""Bytes that each connection has besides."""
SLACK = 24 * MIB
"""What the process may need for connections, threads and the allocator's own."""
WAIT = 60.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Watched:
    """A server process, and clients of it that never end what they begin."""

    def __init__(self, stack):
        program = Path(__file__).parents[1] / "peers" / "websocket_server_process.py"
        self._stack = stack
        self._process = subprocess.Popen(
            [sys.executable, str(program), str(LARGEST)], stdout=subprocess.PIPE, text=True
        )
        stack.callback(self._end)
        self.port = int(self._process.stdout.readline().split()[1])

    def _end(self):
        self._process.kill()
        self._process.wait(WAIT)
        self._process.stdout.close()

    @property
    def resident(self):
        """Bytes of the process in memory."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def policy(self):
        return self._stack.enter_context(WebsocketPolicy("127.0.0.1", self.port))

    def client(self):
        """A client of bytes that is let in, and has its metadata."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT)
        self._stack.callback(client.close)
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        received = b""
        while not received.endswith(b"\x82\x01\x80"):
            received += client.recv(4096)
        return client

    def is_back_at(self, resident):
        """Waits until the process has given its memory back."""
        deadline = time.monotonic() + WAIT
        while self.resident > 1.1 * resident and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.resident <= 1.1 * resident


@pytest.fixture
def server():
    with contextlib.ExitStack() as stack:
        yield Watched(stack)


def head(length):
    """The head of a client's binary message, masked with zeros."""
    return struct.pack("!BBQ", 0x82, 0x80 | 127, length) + bytes(4)


def used(server):
    """The memory of the server when it has been used as it is meant."""
    policy = server.policy()
    for _ in range(3):
        policy.infer({"pad": bytes(MIB), "answer_bytes": MIB}, WAIT)
    return policy, server.resident


def test_messages_that_never_end_take_no_more_than_their_share_and_give_it_back(server):
    bystander, before = used(server)
    clients = [server.client() for _ in range(20)]
    part = bytes(LARGEST - MIB)
    for client in clients:
        client.sendall(head(LARGEST) + part)
    # more was sent than all connections may hold together
    assert len(clients) * len(part) > 2 * OF_ALL
    assert len(bystander.infer({"pad": bytes(OWN // 2)}, WAIT)) == 1
    assert server.resident - before < OF_ALL + len(clients) * OWN + SLACK
    for client in clients:
        client.close()
    assert server.is_back_at(before)


def test_clients_that_do_not_read_get_one_answer_each_and_give_its_memory_back(server):
    bystander, before = used(server)
    clients = [server.client() for _ in range(10)]
    request = packb({"answer_bytes": 4 * MIB})
    for client in clients:
        client.sendall((head(len(request)) + request) * 50)
    assert len(bystander.infer({"answer_bytes": 10}, WAIT)["pad"]) == 10
    assert server.resident - before < len(clients) * 2 * 4 * MIB + SLACK
    for client in clients:
        client.close()
    assert server.is_back_at(before)


def test_a_message_without_room_is_not_ready_and_its_connection_goes_on(server):
    # they leave half of a message's room: more of them would be refused, and leave more
    for _ in range(8):
        server.client().sendall(head(LARGEST) + bytes(LARGEST - 1))
    uri = f"ws://127.0.0.1:{server.port}"
    # not `WebsocketPolicy`, which asks again by itself
    with websockets.sync.client.connect(
        uri, subprotocols=[SUBPROTOCOL], compression=None, max_size=None
    ) as client:
        client.recv(WAIT)
        client.send(packb({"pad": bytes(LARGEST // 4 * 3)}))
        assert unpackb(client.recv(WAIT))["error"]["code"] == "not_ready"
        client.send(packb({"answer_bytes": 1}))
        assert unpackb(client.recv(WAIT))["pad"] == bytes(1)


def test_an_announced_length_takes_no_memory(server):
    _, before = used(server)
    clients = [server.client() for _ in range(60)]
    for client in clients:
        client.sendall(head(LARGEST) + b"x")
    assert server.policy().infer({"answer_bytes": 1}, WAIT)["pad"] == bytes(1)
    assert server.resident - before < SLACK
