"""A WebSocket connection is kept, and one that is lost is made anew."""

# ruff: noqa: SIM117 - a server, its client and what is expected of them, inside each other

import itertools
import socket

import pytest
from openpi_server import SHORT, SOON, serving

from flash_transport import Disconnected, WebsocketPolicy


def test_a_connection_lost_during_a_request_costs_that_request_only():
    def answer(observation, number):
        if observation["n"] == 1:
            server.cut()
        return {"number": number}

    with serving(answer) as server, WebsocketPolicy("127.0.0.1", server.port) as policy:
        with pytest.raises(Disconnected, match="lost before the answer came"):
            policy.infer({"n": 1})
        assert policy.infer({"n": 2}) == {"number": 1}


def test_a_connection_closed_between_requests_costs_nothing(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        policy.infer({})
        server.connections[0].close()
        assert policy.infer({"n": 2}) == {"n": 2}


def test_a_restarted_server_is_found_again_and_asked_who_it_is(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        policy.infer({})
        server.connections[0].close()
        server.close()
        with serving(lambda o, number: {"restarted": True}, port=server.port) as again:
            again.metadata = {"model": "pi05"}
            assert policy.infer({}) == {"restarted": True}
            assert policy.get_server_metadata() == {"model": "pi05"}


def test_a_server_that_stays_away_takes_no_longer_than_the_request_may(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        server.connections[0].close()
        server.close()
        for _ in range(2):
            with pytest.raises(Disconnected, match="within 0.15 s: .*refused"):
                policy.infer({}, timeout=SHORT)


def test_a_server_that_hangs_up_before_it_says_who_it_is_is_tried_again():
    attempts = itertools.count()

    def hang_up_twice(connection, request):
        if next(attempts) < 2:
            connection.socket.shutdown(socket.SHUT_RDWR)

    with serving(process_request=hang_up_twice) as server:
        with WebsocketPolicy("127.0.0.1", server.port) as policy:
            assert policy.infer({"n": 1}) == {"n": 1}


def test_the_servers_pings_are_answered_between_requests(server):
    with WebsocketPolicy("127.0.0.1", server.port):
        assert server.connections[0].ping().wait(SOON)


def test_a_host_that_vanishes_is_noticed_by_the_kernel(server):
    # not by WebSocket pings, which openpi's server does not answer while it computes
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        sock = policy._connection.socket.socket
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        assert getattr(policy._connection.socket, "ping_interval", None) is None
