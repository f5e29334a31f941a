"""Clients that end without a word: their place is free at once, not after ten silent seconds."""

import os
import signal
import time

from quic_peers import LONG, ClientProcess, Served, eventually, thread_results

from flash_transport import FlashTransportPolicy, QuicServer

PROMPTLY = 4.0
"""Seconds; about 0.4 on an idle machine, and 10 if silence alone told."""


def test_the_place_of_a_killed_client_that_waited_for_nothing_is_free_at_once():
    with QuicServer("127.0.0.1", 0, metadata={}) as server:
        with ClientProcess(server.port, "arm") as client:
            assert server.connections == 1
            client.kill()
            killed_at = time.monotonic()
            eventually(lambda: server.connections == 0)
            assert time.monotonic() - killed_at < PROMPTLY
        assert server.counters["clients_gone"] == 1


def test_the_request_of_a_killed_client_is_cancelled_at_once():
    held = []
    with Served(held.append) as served, ClientProcess(served.port, "arm", asks=True) as client:
        eventually(lambda: held)
        client.kill()
        killed_at = time.monotonic()
        eventually(lambda: held[0].cancelled)
        assert time.monotonic() - killed_at < PROMPTLY
        eventually(lambda: served.server.connections == 0)
        assert served.server.counters["requests_cancelled"] == 1


def test_a_request_that_a_killed_client_left_behind_never_comes_out():
    with QuicServer("127.0.0.1", 0, metadata={}) as server:
        with ClientProcess(server.port, "arm", asks=True) as client:
            eventually(lambda: server.counters["requests_accepted"] == 1)
            client.kill()
            eventually(lambda: server.connections == 0)
        assert server.next_request(timeout=0) is None


def test_a_killed_client_that_listened_on_ipv4_is_found_by_a_server_on_ipv6_too():
    with (
        QuicServer("::", 0, metadata={}) as server,
        ClientProcess(server.port, "arm") as client,
    ):
        client.kill()
        killed_at = time.monotonic()
        eventually(lambda: server.connections == 0)
        assert time.monotonic() - killed_at < PROMPTLY


def test_others_go_on_while_one_is_killed():
    with Served() as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        with ClientProcess(served.port, "arm") as client:
            client.kill()
            answered = 0
            while served.server.connections > 1:
                answer = policy.infer({"number": answered}, timeout=LONG)
                assert answer["echo"] == {"number": answered}
                answered += 1
        assert served.server.counters["connections_accepted"] == 2
        assert served.server.counters["requests_cancelled"] == 0
        assert policy.infer({}, timeout=LONG)["echo"] == {}


def test_a_client_that_comes_back_takes_over_from_its_silent_former_life():
    """A machine that lost its power refuses nothing; a stopped process is as silent."""
    with (
        QuicServer("127.0.0.1", 0, metadata={}) as server,
        ClientProcess(server.port, "arm") as former,
    ):
        os.kill(former.popen.pid, signal.SIGSTOP)
        with FlashTransportPolicy("127.0.0.1", server.port, session="arm"):
            came_at = time.monotonic()
            eventually(lambda: server.connections == 1)
            assert time.monotonic() - came_at < PROMPTLY
            assert server.counters["clients_gone"] == 1


def test_two_living_clients_of_one_session_leave_each_other_in_peace():
    with (
        Served() as served,
        FlashTransportPolicy("127.0.0.1", served.port, session="arm") as one,
        ClientProcess(served.port, "arm") as silent,
    ):
        os.kill(silent.popen.pid, signal.SIGSTOP)
        with FlashTransportPolicy("127.0.0.1", served.port, session="arm") as other:
            # the same doubt is over for the silent client and for the one that lives
            eventually(lambda: served.server.counters["clients_gone"] == 1)
            with thread_results(lambda: one.infer({}, timeout=LONG)) as answers:
                assert other.infer({}, timeout=LONG) == {"echo": {}, "session": "arm"}
            assert answers == [{"echo": {}, "session": "arm"}]
            assert served.server.connections == 2
        assert served.server.counters["connections_accepted"] == 3
        assert served.server.counters["clients_gone"] == 1
