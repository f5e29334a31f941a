"""No request over WebSocket takes longer than it may."""

# ruff: noqa: SIM117 - a server, its client and what is expected of them, inside each other

import socket
import threading

import numpy as np
import pytest
from openpi_server import SHORT, SOON, serving
from websockets.server import ServerProtocol

from flash_transport import Timeout, WebsocketPolicy, packb


def test_an_answer_that_does_not_come_ends_in_a_timeout():
    hold = threading.Event()
    with serving(lambda observation, number: {"held": hold.wait(SOON)}) as server:
        with WebsocketPolicy("127.0.0.1", server.port) as policy:
            with pytest.raises(Timeout, match=rf"no answer from ws://.*:{server.port} within 0.15"):
                policy.infer({}, timeout=SHORT)
            hold.set()
            assert policy.infer({}) == {"held": True}


def test_a_late_answer_is_never_taken_for_the_next_ones():
    asked, late = threading.Event(), threading.Event()

    def answer(observation, number):
        if observation["n"] == 1:
            asked.set()
            late.wait(SOON)
        return observation

    with serving(answer) as server, WebsocketPolicy("127.0.0.1", server.port) as policy:
        with pytest.raises(Timeout):
            policy.infer({"n": 1}, timeout=SHORT)
        assert asked.is_set()
        late.set()
        assert [policy.infer({"n": n})["n"] for n in (2, 3)] == [2, 3]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_request_leaves_no_answer_behind(server, interruption):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        connection = policy._connection.socket

        def recv(timeout=None):
            raise interruption

        recv_before, connection.recv = (
            connection.recv,
            lambda timeout=None: recv(timeout) if timeout != 0 else recv_before(timeout=0),
        )
        with pytest.raises(interruption):
            policy.infer({"n": 1})
        assert policy.infer({"n": 2}) == {"n": 2}


def test_no_time_at_all_is_a_timeout_too(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        with pytest.raises(Timeout):
            policy.infer({"n": 1}, timeout=0)
        assert policy.infer({"n": 2}) == {"n": 2}


class NeverReads:
    """A server that shakes hands, says who it is, and reads no more."""

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def _serve(self):
        self._connection, _ = self._listener.accept()
        protocol = ServerProtocol()
        protocol.receive_data(self._connection.recv(65536))
        (request,) = protocol.events_received()
        protocol.send_response(protocol.accept(request))
        protocol.send_binary(packb({}))
        for data in protocol.data_to_send():
            self._connection.sendall(data)

    def __exit__(self, *_):
        self._thread.join()
        self._connection.close()
        self._listener.close()


def test_a_server_that_does_not_read_cannot_hold_a_request_for_longer_than_it_has():
    with NeverReads() as server:
        policy = WebsocketPolicy("127.0.0.1", server.port)
        large = {"image": np.zeros(64 << 20, np.uint8)}
        with pytest.raises(Timeout):
            policy.infer(large, timeout=SHORT)
        policy.close()
