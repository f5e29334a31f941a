"""A server that computes still answers: pings, its health page, and new connections."""

import threading
import time

import numpy as np
from served_slot import connect, get
from server_fakes import WAIT, FakePolicy

from flash_transport import packb, unpackb


def test_pings_and_the_health_page_are_answered_while_an_inference_runs(serve_websocket):
    policy = FakePolicy(gate=threading.Event())
    server = serve_websocket(policy)
    with connect(server) as client:
        client.recv(WAIT)
        client.send(packb({"state": np.zeros(2)}))
        assert policy.entered.acquire(timeout=WAIT)
        seconds = []
        for _ in range(20):
            started = time.monotonic()
            assert client.ping().wait(WAIT)
            seconds.append(time.monotonic() - started)
        assert get(server) == (200, "OK\n")
        with connect(server) as other:
            assert "actions" in unpackb(other.recv(WAIT))
        policy.gate.set()
        assert "actions" in unpackb(client.recv(WAIT))
    # below 5 ms each on an idle computer; one of them is fast on a busy one, too
    assert min(seconds) < 0.1
