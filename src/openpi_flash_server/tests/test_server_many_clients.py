"""32 clients at once for some seconds: no error, and nothing that a connection leaves behind."""

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
from served_slot import QuicServer, WebsocketServer, wait_until
from server_fakes import WAIT, FakePolicy

from flash_transport import WebsocketPolicy

CLIENTS = 32
REQUESTS = 6


class QuietPolicy(FakePolicy):
    """Remembers nothing."""

    def infer(self, observation, controls=None):
        result = super().infer(observation, controls)
        self.seen.clear()
        self.controls.clear()
        return result


@pytest.fixture(params=["quic", "websocket"])
def server(request, tmp_path):
    if request.param == "quic":
        server = QuicServer(tmp_path, QuietPolicy())
    else:
        server = WebsocketServer(QuietPolicy())
        server.connect = lambda: WebsocketPolicy("127.0.0.1", server.port)
    yield server
    server.close()


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def ask_together(server):
    """Every client connects, asks some times, and leaves; returns what went wrong."""
    wrong, answers = [], []

    def run(number):
        try:
            with server.connect() as client:
                for step in range(REQUESTS):
                    state = np.array([number, step], np.float32)
                    answer = client.infer({"state": state}, timeout=WAIT)
                    answers.append(np.array_equal(answer["actions"][0], state))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert wrong == []
    assert answers == [True] * CLIENTS * REQUESTS


def held_by(slot):
    """What a slot keeps of clients, sessions and requests."""
    return len(slot._open), len(slot._sessions._uses), len(slot._sessions._sessions)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_many_clients_get_their_own_answers_and_leave_nothing_behind(server):
    ask_together(server)
    wait_until(lambda: held_by(server.slot) == (0, 0, 0))
    gc.collect()
    before = descriptors()
    for _ in range(2):
        ask_together(server)
    wait_until(lambda: held_by(server.slot) == (0, 0, 0))
    wait_until(lambda: gc.collect() >= 0 and descriptors() <= before)
    assert len(server.slot._runs) == 0
