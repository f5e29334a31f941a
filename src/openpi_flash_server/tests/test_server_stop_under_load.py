"""SIGTERM while many clients ask over WebSocket: who is answered, and who gets `not_ready`."""

import concurrent.futures
import contextlib
import signal
import sys
import threading

import pytest
import websockets.sync.client
from server_fakes import WAIT
from websockets.exceptions import InvalidStatus

from flash_transport import WebsocketPolicy, packb, unpackb
from flash_transport.websocket.connection import SUBPROTOCOL

CONFIG = {
    "action": {"model_config_name": "null"},
    "host": "127.0.0.1",
    "action_transport": {"websocket_port": 0, "quic_port": 0},
}

PROGRAM = """
import sys
from openpi_flash_server.cli import app
from openpi_flash_server.handlers import null_policy
from openpi_flash_server.serving import endpoint, loading, service
from openpi_flash_server.slot import slot


class SlowPolicy(null_policy.NullPolicy):
    def infer(self, observation, controls=None):
        if "wait" in observation:
            print("inference runs", flush=True)
            sys.stdin.readline()
        return super().infer(observation, controls)


def told(kind, name, word):
    done = getattr(kind, name)

    def do(self, *arguments):
        done(self, *arguments)
        print(word, flush=True)

    setattr(kind, name, do)


told(slot.Slot, "submit", "request accepted")
told(endpoint.Endpoint, "stop_accepting", "stopped accepting")
slow = loading.Loaders(policy=lambda settings: SlowPolicy(), planner=loading.load_planner)
service.Service.__init__.__defaults__ = (slow,)
app(prog_name="openpi-flash")
"""

ACCEPTED_LINE = "request accepted"
ACCEPTED = 8
LATE = 4


@pytest.fixture
def process(start, tmp_path):
    """A server whose observations with `wait` take a line of stdin each."""
    (tmp_path / "slow.py").write_text(PROGRAM)
    process = start(CONFIG, program=[sys.executable, str(tmp_path / "slow.py")])
    process.wait_for("Service ready")
    return process


@contextlib.contextmanager
def connect(port):
    """A bare connection that has its metadata: our client asks again where it gets `not_ready`."""
    with websockets.sync.client.connect(
        f"ws://127.0.0.1:{port}", subprotocols=[SUBPROTOCOL], compression=None
    ) as connection:
        connection.recv(WAIT)
        yield connection


def code(connection):
    return unpackb(connection.recv(WAIT))["error"]["code"]


def test_what_was_accepted_is_answered_and_what_comes_later_is_not_ready(process):
    port, _ = process.ports()
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(ACCEPTED))
        first, *others = (
            stack.enter_context(WebsocketPolicy("127.0.0.1", port)) for _ in range(ACCEPTED)
        )
        late = [stack.enter_context(connect(port)) for _ in range(LATE)]
        answers = [pool.submit(first.infer, {"wait": True}, WAIT)]
        process.wait_for("inference runs")
        answers += [pool.submit(client.infer, {}, WAIT) for client in others]
        while sum(line.count(ACCEPTED_LINE) for line in process.lines) < ACCEPTED:
            process.wait_for(ACCEPTED_LINE)

        process.popen.send_signal(signal.SIGTERM)
        process.wait_for("stopped accepting")
        for connection in late:
            connection.send(packb({}))
        assert [code(connection) for connection in late] == ["not_ready"] * LATE
        with pytest.raises(InvalidStatus, match="503"), connect(port):
            pass
        assert not any(answer.done() for answer in answers)

        process.go_on()
        assert {answer.result(WAIT)["actions"].shape for answer in answers} == {(50, 32)}
    assert process.end() == (0, "")


def test_a_request_that_had_not_arrived_completely_is_not_ready(process):
    port, _ = process.ports()
    stopped = threading.Event()

    def halves():
        message = packb({"prompt": "go"})
        yield message[:4]
        assert stopped.wait(WAIT)
        yield message[4:]

    with (
        WebsocketPolicy("127.0.0.1", port) as client,
        connect(port) as slow,
        concurrent.futures.ThreadPoolExecutor(2) as pool,
    ):
        running = pool.submit(client.infer, {"wait": True}, WAIT)
        process.wait_for("inference runs")
        sending = pool.submit(slow.send, halves())
        process.popen.send_signal(signal.SIGTERM)
        process.wait_for("stopped accepting")
        stopped.set()
        sending.result(WAIT)
        assert code(slow) == "not_ready"
        process.go_on()
        assert running.result(WAIT)["actions"].shape == (50, 32)
    assert process.end() == (0, "")
