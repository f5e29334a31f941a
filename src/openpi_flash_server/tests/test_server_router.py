"""The router between real clients and real servers, on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from server_fakes import WAIT

from flash_transport import (
    Disconnected,
    FlashTransportPolicy,
    QuicServer,
    WebsocketPolicy,
    WebsocketServer,
)
from openpi_flash_server.routing.route_config import RouteConfig
from openpi_flash_server.routing.router import Router


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.server.is_ready else 503)
        self.end_headers()
        self.wfile.write(b'openpi_flash_requests_waiting{slot="action"} %d\n' % self.server.waiting)

    def log_message(self, *arguments):
        pass


class Backend:
    """A server with the answers of a test, and what it says of its health.

    Attributes:
        answered: requests.
        held: requests that are not answered yet, if `holds`.
    """

    def __init__(self, number, port=0):
        self.name, self.id = f"server {number}", f"0x{number:016x}"
        self.answered, self.holds, self.held = 0, threading.Event(), []
        self.quic = QuicServer("127.0.0.1", port, metadata={"name": self.name}, server_id=self.id)
        self._health = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Health)
        self._health.is_ready, self._health.waiting = True, 0
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._serve, self._health.serve_forever)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def routed(self):
        return {
            "host": "127.0.0.1",
            "server_id": self.id,
            "quic_port": self.quic.port,
            "websocket_port": self._health.server_port,
            "admin_port": self._health.server_port,
        }

    def _serve(self):
        while (request := self.quic.next_request()) is not None:
            if self.holds.is_set():
                self.held.append(request)
                continue
            request.respond({"by": self.name})
            self.answered += 1

    def says(self, *, ready=True, waiting=0):
        self._health.is_ready, self._health.waiting = ready, waiting

    def close(self):
        self.quic.close()
        self._health.shutdown()
        self._health.server_close()
        for thread in self._threads:
            thread.join(WAIT)


class Running:
    """A router in a thread of its own."""

    def __init__(self, *servers, quic_port=0):
        config = {"servers": servers, "host": "127.0.0.1"}
        self.router = Router(
            RouteConfig.model_validate(config | {"quic_port": quic_port, "websocket_port": 0})
        )
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self._in_loop(self.router.start())

    @property
    def states(self):
        return self.router._routes.states

    def _in_loop(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT)

    def close(self):
        self._in_loop(self.router.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT)
        self.loop.close()


def eventually(condition):
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def made():
    """Closes what a test has made, the last first."""
    with contextlib.ExitStack() as stack:

        def make(thing):
            stack.callback(thing.close)
            return thing

        yield make


@pytest.fixture
def two(made):
    return made(Backend(1)), made(Backend(2))


@pytest.fixture
def running(made, two):
    router = made(Running(*(one.routed for one in two)))
    eventually(lambda: all(state.ready for state in router.states))
    return router


def robot(made, router, **options):
    return made(FlashTransportPolicy("127.0.0.1", router.router.quic_port, **options))


def by(policy):
    return policy.infer({"x": bytes(400_000)}, timeout=WAIT)["by"]


def test_two_robots_get_a_server_each_and_keep_it(made, running):
    robots = [robot(made, running) for _ in range(2)]
    first = [by(one) for one in robots]
    assert sorted(first) == ["server 1", "server 2"]
    assert [by(one) for one in robots for _ in range(5)] == [first[0]] * 5 + [first[1]] * 5


def test_a_robot_of_a_server_that_drains_is_sent_to_the_other_and_loses_no_request(
    made, running, two
):
    one = robot(made, running)
    assert by(one) == "server 1"
    two[0].says(ready=False)
    drained = []
    draining = threading.Thread(target=lambda: drained.append(two[0].quic.drain(WAIT)))
    draining.start()
    assert [by(one) for _ in range(3)] == ["server 2"] * 3
    draining.join(WAIT)
    assert drained == [True]


def test_a_robot_without_requests_under_way_does_not_wait_for_those_of_others(made, running, two):
    robots = {by(one): one for one in (robot(made, running), robot(made, running))}
    idle = robot(made, running)
    server = by(idle)
    busy, other = two if server == "server 1" else reversed(two)
    busy.holds.set()
    held = robots[server].submit({"x": 1}, timeout=WAIT)
    eventually(lambda: busy.held)
    busy.says(ready=False)
    busy.quic.stop_accepting()
    assert by(idle) == other.name
    assert not held.done()
    busy.held[0].respond({"by": server})
    assert held.result(WAIT)["by"] == server


def test_a_robot_goes_on_after_a_restart_of_the_router(made, two):
    routed = [one.routed for one in two]
    first = Running(*routed)
    port = first.router.quic_port
    try:
        eventually(lambda: all(state.ready for state in first.states))
        policy = made(FlashTransportPolicy("127.0.0.1", port))
        by(policy)
    finally:
        first.close()
    second = made(Running(*routed, quic_port=port))
    eventually(lambda: all(state.ready for state in second.states))
    # a longer pause ends the connection: the server takes a client whose port is closed for dead
    with contextlib.suppress(Disconnected):
        by(policy)
    assert by(policy) in {"server 1", "server 2"}


def test_requests_that_wait_on_a_server_send_new_robots_to_the_other(made, running, two):
    two[0].says(waiting=3)
    eventually(lambda: running.states[0].waiting == 3)
    assert by(robot(made, running)) == "server 2"
    assert by(robot(made, running)) == "server 2"


def test_websocket_clients_reach_a_server_too(made):
    server = made(WebsocketServer("127.0.0.1", 0, metadata={"name": "server 1"}))

    def serve():
        while (request := server.next_request()) is not None:
            request.respond({"by": "server 1"})

    threading.Thread(target=serve, daemon=True).start()
    routed = {"host": "127.0.0.1", "server_id": f"0x{1:016x}", "websocket_port": server.port}
    running = made(Running(routed))
    eventually(lambda: running.states[0].ready)
    with WebsocketPolicy("127.0.0.1", running.router.websocket_port) as policy:
        assert policy.infer({"x": 1}, timeout=WAIT)["by"] == "server 1"


def test_the_command_says_where_it_listens_and_ends_when_told(tmp_path, two):
    path = tmp_path / "route.json"
    ports = {"host": "127.0.0.1", "quic_port": 0, "websocket_port": 0}
    path.write_text(json.dumps({"servers": [one.routed for one in two], **ports}))
    command = [sys.executable, "-m", "openpi_flash_server", "route", "--config", str(path)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        said = process.stdout.readline()
        assert said.startswith("Router ready (quic="), said
        port = int(said.partition("quic=")[2].partition(",")[0])
        with FlashTransportPolicy("127.0.0.1", port) as policy:
            assert by(policy) in {"server 1", "server 2"}
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(WAIT) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_port_in_use_is_named(tmp_path, two, running):
    path = tmp_path / "route.json"
    ports = {"host": "127.0.0.1", "quic_port": running.router.quic_port, "websocket_port": 0}
    path.write_text(json.dumps({"servers": [one.routed for one in two], **ports}))
    command = [sys.executable, "-m", "openpi_flash_server", "route", "--config", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)
    assert result.returncode == 1
    assert "error: cannot listen: " in result.stderr


def test_a_server_that_comes_back_at_another_address_is_found_there(made, monkeypatch):
    old, new = made(Backend(1)), made(Backend(1))
    ports = [old.quic.port]

    async def looked_up(loop, host, port, **more):
        return [(0, 0, 0, "", ("127.0.0.1", ports[0]))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", looked_up)
    # a name, not an address, so that it is looked up
    router = made(Running(old.routed | {"host": "localhost"}))
    eventually(lambda: router.states[0].ready)
    one = robot(made, router)
    assert by(one) == "server 1"
    assert (old.answered, new.answered) == (1, 0)
    old.says(ready=False)
    eventually(lambda: not router.states[0].ready)
    old.quic.close()
    ports[0] = new.quic.port
    old.says(ready=True)
    eventually(lambda: router.states[0].ready)
    assert by(one) == "server 1"
    assert (old.answered, new.answered) == (1, 1)
