"""What clients of the WebSocket port can take of a server's memory, and what it gives back.

The clients are let in, and then send a message that never ends, or send requests and read no
answer. Memory is the resident set of the server's process, before, at its highest, and 10 s after
the clients have closed their connections.
"""

from __future__ import annotations

import contextlib
import selectors
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from accounting import process_tree
from arms import Arm, start_server
from served_process import observation
from websocket_crowd import Client, Frame, answers, masked_frame

from flash_transport import packb

MB = 1_000_000
PART_BYTES = 60 * MB
"""Of a message of 64 MiB, whose rest never comes."""
SENDING_S = 5.0
"""s for which clients that do not read send requests."""
REST_S = 10.0
"""s from the end of an attack to its last measurement."""


def endless_messages(port: int, message: Frame) -> list[Client]:
    """20 clients that each have sent 60 MB of a message."""
    clients = [Client(port, message) for _ in range(20)]
    head = struct.pack("!BBQ", 0x82, 0x80 | 127, 64 << 20) + b"mask"
    for client in clients:
        client.socket.settimeout(60)
        # a server may give up a client that answers no ping
        with contextlib.suppress(OSError):
            client.socket.sendall(head + bytes(PART_BYTES))
    return clients


def unread_answers(port: int, message: Frame) -> list[Client]:
    """40 clients that have sent requests as long as the server took them, and read nothing."""
    clients = [Client(port, message) for _ in range(40)]
    selector = selectors.DefaultSelector()
    for client in clients:
        client.begin()
        selector.register(client.socket, selectors.EVENT_WRITE, client)
    until = time.monotonic() + SENDING_S
    while time.monotonic() < until:
        for key, _ in selector.select(timeout=0.1):
            if key.data.go_on() == selectors.EVENT_READ:
                key.data.begin()
    selector.close()
    return clients


ATTACKS: Sequence[tuple[str, Callable[[int, Frame], list[Client]]]] = (
    ("20 clients, 60 MB each of a message that never ends", endless_messages),
    ("40 clients that send requests and read no answer", unread_answers),
)


class Watch:
    """The resident set of a process and its descendants, MB, and the highest since `reset`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self.highest = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def now(self) -> float:
        """MB that are resident now."""
        pages = 0
        for pid in process_tree(self._pid):
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * 4096 / MB

    def reset(self) -> None:
        """Forgets the highest."""
        self.highest = 0.0

    def end(self) -> None:
        """Stops watching."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.highest = max(self.highest, self.now())


def memory_table(arms: Sequence[Arm]) -> str:
    """Attacks the arms' servers one after the other, and returns a table."""
    message = masked_frame(packb(observation(3)))
    lines = [
        "| attack | server | before MB | highest MB | 10 s after MB | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for title, attack in ATTACKS:
        for arm in arms:
            with contextlib.ExitStack() as stack:
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
                process, port = stack.enter_context(start_server(arm, directory, {}))
                # a server that is in use
                answers([Client(int(port), message) for _ in range(4)], 1.0)
                watch = Watch(process.pid)
                stack.callback(watch.end)
                time.sleep(REST_S)
                before = watch.now()
                watch.reset()
                clients = attack(int(port), message)
                highest = max(watch.highest, watch.now())
                for client in clients:
                    client.socket.close()
                time.sleep(REST_S)
                after = watch.now()
            lines.append(
                f"| {title} | {arm.server} | {before:.0f} | {highest:.0f} "
                f"| {after:.0f} | {after / before:.2f} |"
            )
    return "\n".join(lines)
