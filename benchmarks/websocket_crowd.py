"""Many clients of the WebSocket port at once: openpi-flash against a server of openpi's protocol.

Both servers answer with a null policy. One process plays all clients: each sends the same
observation again as soon as it has its answer. It is packed and masked once, and the kernel sends
it from memory that the clients share (`sendfile`): the processor is the servers'. The servers take
turns of a second each, so that a noisy moment hits both.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accounting import cpu_seconds
from arms import Arm, start_server
from served_process import observation

from flash_transport import packb

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Client:
    """One connection that sends a message and counts its answers.

    Args:
        port: of the server.
        message: a whole frame.
    """

    def __init__(self, port: int, message: Frame) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(HANDSHAKE)
        self._received = b""
        while b"\r\n\r\n" not in self._received:
            self._received += self.socket.recv(65536)
        self._received = self._received.partition(b"\r\n\r\n")[2]
        while not self._frame_size():
            self._received += self.socket.recv(65536)
        self._received = b""
        self._message = message
        self._sent = message.size
        self.socket.setblocking(False)

    def begin(self) -> None:
        """Sends as much of the next message as the socket takes."""
        self._sent = 0
        self.go_on()

    def go_on(self) -> int:
        """Sends and receives what there is; returns the events that are wanted next."""
        left = self._message.size - self._sent
        if left:
            with contextlib.suppress(BlockingIOError):
                self._sent += os.sendfile(
                    self.socket.fileno(), self._message.file, self._sent, left
                )
        return selectors.EVENT_WRITE if self._sent < self._message.size else selectors.EVENT_READ

    def receive(self) -> bool:
        """Returns whether the answer is whole."""
        with contextlib.suppress(BlockingIOError):
            self._received += self.socket.recv(65536)
        while size := self._frame_size():
            is_control = self._received[0] & 0x08
            self._received = self._received[size:]
            if not is_control:
                return True
        return False

    def _frame_size(self) -> int:
        """Bytes of the frame that has come; 0 if it is not whole."""
        if len(self._received) < 2:
            return 0
        length, head = self._received[1], 2
        size = {126: "!H", 127: "!Q"}.get(length)
        if size is not None:
            head += struct.calcsize(size)
            if len(self._received) < head:
                return 0
            (length,) = struct.unpack(size, self._received[2:head])
        return head + length if len(self._received) >= head + length else 0


@dataclass(frozen=True)
class Frame:
    """A frame to send.

    Attributes:
        file: descriptor of a file in memory that holds it.
        size: bytes.
    """

    file: int
    size: int


def masked_frame(payload: bytes) -> Frame:
    """A binary message of a client (RFC 6455, section 5.3)."""
    mask = b"\x37\xfa\x21\x3d"
    head = struct.pack("!BBQ", 0x82, 0x80 | 127, len(payload))
    masks = np.frombuffer(mask * (len(payload) // 4 + 1), np.uint8)[: len(payload)]
    frame = head + mask + (np.frombuffer(payload, np.uint8) ^ masks).tobytes()
    file = os.memfd_create("frame")
    os.write(file, frame)
    return Frame(file, len(frame))


def answers(clients: list[Client], seconds: float) -> int:
    """How many answers come in that time; the last ones under way are waited for."""
    selector = selectors.DefaultSelector()
    for client in clients:
        client.begin()
        selector.register(client.socket, client.go_on(), client)
    until, count, waiting = time.monotonic() + seconds, 0, len(clients)
    while waiting:
        for key, events in selector.select(timeout=10):
            client = key.data
            if events & selectors.EVENT_READ and client.receive():
                count += 1
                if time.monotonic() >= until:
                    waiting -= 1
                    selector.unregister(client.socket)
                    continue
                client.begin()
            selector.modify(client.socket, client.go_on(), client)
    selector.close()
    return count


def crowd_table(arms: Sequence[Arm], *, clients: int, cameras: int, turns: int) -> str:
    """Measures the arms' servers, and returns a table; ratios are medians, against the first."""
    message = masked_frame(packb(observation(cameras)))
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        servers = [stack.enter_context(start_server(arm, directory, {})) for arm in arms]
        crowds = [[Client(int(port), message) for _ in range(clients)] for _, port in servers]
        for crowd in crowds:
            answers(crowd, 1.0)
        rates: list[list[float]] = [[] for _ in arms]
        cpu: list[list[float]] = [[] for _ in arms]
        for _ in range(turns):
            for index, crowd in enumerate(crowds):
                pid, began = servers[index][0].pid, time.monotonic()
                before = cpu_seconds(pid)
                count = answers(crowd, 1.0)
                rates[index].append(count / (time.monotonic() - began))
                cpu[index].append((cpu_seconds(pid) - before) / count * 1000)
        for crowd in crowds:
            for client in crowd:
                client.socket.close()
    lines = [
        "| server | answers/s | ratio | server's CPU s / 1,000 | CPU ratio |",
        "|---|---|---|---|---|",
    ]
    for arm, rate, seconds in zip(arms, rates, cpu, strict=True):
        ratio = np.median(np.array(rate) / np.array(rates[0]))
        of_cpu = np.median(np.array(seconds) / np.array(cpu[0]))
        lines.append(
            f"| {arm.server} | {np.median(rate):.0f} | {ratio:.2f} "
            f"| {np.median(seconds):.2f} | {of_cpu:.2f} |"
        )
    return "\n".join(lines)
