"""Which server a packet goes to, without sockets or clocks."""

import json

import pytest

from openpi_flash_server.routing.route_config import read_route_config
from openpi_flash_server.routing.routes import (
    LIVE_FOR,
    MOST_CLIENTS,
    MOST_FIRST_FLIGHTS,
    Routes,
    ServerState,
    parse_server_id,
)

IDS = [parse_server_id(f"0x{number:016x}") for number in (1, 2)]
ROBOT, OTHER, THIRD = ("10.0.0.1", 1000), ("10.0.0.2", 1000), ("10.0.0.3", 1000)
READY, ENDING = ServerState(ready=True), ServerState()


def first(chosen_by_client=b"12345678"):
    """The first packet of a connection: a long header, and an id that the client made up."""
    return b"\xc0\0\0\0\1" + bytes([len(chosen_by_client)]) + chosen_by_client + bytes(1200)


def made_by(server):
    return b"\x10" + IDS[server] + b"a nonce!"


def later(server):
    return b"\x40" + made_by(server) + bytes(100)


@pytest.fixture
def routes():
    made = Routes(IDS)
    made.states = [READY, READY]
    return made


def test_robots_are_shared_out_and_each_keeps_its_server(routes):
    assert [routes.packet(first(), robot, 0.0) for robot in (ROBOT, OTHER, THIRD)] == [0, 1, 0]
    # the same packet again, as after a loss
    assert routes.packet(first(), OTHER, 0.1) == 1
    assert routes.packet(first(made_by(1)), OTHER, 0.2) == 1
    assert routes.packet(later(1), OTHER, 0.3) == 1


def test_a_connection_keeps_its_server_at_another_address_and_after_a_restart_of_the_router():
    fresh = Routes(IDS)
    assert fresh.packet(later(1), ("192.0.2.9", 4), 0.0) == 1


def test_a_server_that_ends_gets_no_new_robots_and_keeps_its_own(routes):
    assert routes.packet(first(), ROBOT, 0.0) == 0
    routes.states[0] = ENDING
    assert routes.packet(later(0), ROBOT, 1.0) == 0
    # sent away, it connects again: from another port, or from the same
    assert routes.packet(first(b"another."), ROBOT, 1.1) == 1
    assert routes.packet(first(b"another."), ("10.0.0.1", 2000), 1.1) == 1


def test_a_handshake_with_a_server_that_went_begins_anew_with_another(routes):
    """A robot that is sent away connects again before the router knows that the server ends."""
    assert routes.packet(first(), ROBOT, 0.0) == 0
    routes.states[0] = ENDING
    assert [routes.packet(first(), ROBOT, at) for at in (0.3, 0.6)] == [1, 1]
    # while no other is ready it is left where it is
    routes.states[1] = ENDING
    assert routes.packet(first(), ROBOT, 0.9) == 1


def test_another_server_resets_the_connections_of_one_that_is_gone(routes):
    assert routes.packet(later(0), ROBOT, 0.0) == 0
    routes.states[0] = ServerState(gone=True)
    assert routes.packet(later(0), ROBOT, 0.3) == 1
    # the robot is counted there once it has connected
    routes.states[0] = READY
    assert routes.packet(later(0), ROBOT, 0.6) == 0
    routes.states = [ServerState(gone=True), ENDING]
    assert routes.packet(later(0), ROBOT, 0.9) == 0


def test_nobody_is_sent_anywhere_before_a_server_is_ready(routes):
    routes.states = [ENDING, ENDING]
    assert routes.packet(first(), ROBOT, 0.0) is None
    assert routes.connection(ROBOT, 0.0) is None
    routes.states[1] = READY
    assert routes.packet(first(), ROBOT, 0.1) == 1


def test_requests_that_wait_count_as_robots_do(routes):
    routes.states = [ServerState(ready=True, waiting=2), READY]
    robots = [(f"10.0.0.{number}", 1) for number in range(4)]
    assert [routes.packet(first(), robot, 0.0) for robot in robots] == [1, 1, 0, 1]


def test_a_robot_that_comes_back_gets_its_server_again_if_that_has_no_more_to_do(routes):
    assert routes.packet(first(), ROBOT, 0.0) == 0
    assert routes.packet(first(), OTHER, 0.0) == 1
    back = 2 * LIVE_FOR
    assert routes.packet(first(b"again..."), ("10.0.0.2", 7), back) == 1
    assert routes.packet(first(b"again..."), ("10.0.0.1", 7), back) == 0


def test_websocket_clients_are_shared_out_with_the_others(routes):
    assert routes.packet(first(), ROBOT, 0.0) == 0
    assert routes.connection(OTHER, 0.0) == 1


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x40" + bytes(40),
        b"\xc0\0\0\0\1\xff" + bytes(40),
        b"\x40\x10" + parse_server_id("0x00000000000000ff") + bytes(40),
    ],
    ids=["empty", "an unknown id", "an id that is longer than the packet", "a strange server"],
)
def test_packets_of_no_connection_go_nowhere(routes, packet):
    assert routes.packet(packet, ROBOT, 0.0) is None


def test_invented_connections_take_no_more_memory_than_is_allowed(routes):
    for number in range(MOST_FIRST_FLIGHTS):
        assert routes.packet(first(number.to_bytes(8, "big")), ROBOT, 0.0) is not None
    assert routes.packet(first(b"one more"), OTHER, 0.0) is None
    routes.forget(100.0, quiet_for=60.0)
    assert routes.packet(first(b"one more"), OTHER, 100.0) is not None


# the configuration


def test_a_configuration_has_the_ports_of_a_server_by_default(tmp_path):
    path = tmp_path / "route.json"
    path.write_text(json.dumps({"servers": [{"host": "gpu", "server_id": "0x1a2b3c4d5e6f7081"}]}))
    config = read_route_config(path)
    assert (config.quic_port, config.servers[0].websocket_port) == (5555, 8000)


@pytest.mark.parametrize(
    ("servers", "problem"),
    [
        ([], "servers: Tuple should have at least 1 item"),
        ([{"host": "a", "server_id": "7"}], "is not 0x and 16 lowercase hexadecimal digits"),
        ([{"host": h, "server_id": f"0x{1:016x}"} for h in "ab"], "packets would mix"),
        ([{"host": "a", "server_id": f"0x{1:016x}", "port": 1}], "servers.0.port: Extra"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path, servers, problem):
    path = tmp_path / "route.json"
    path.write_text(json.dumps({"servers": servers}))
    with pytest.raises(ValueError, match=f"route.json: .*{problem}"):
        read_route_config(path)


def test_packets_from_invented_addresses_are_carried_and_not_remembered(routes):
    for number in range(MOST_CLIENTS + 10):
        assert (
            routes.packet(
                later(0), (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1), 0.0
            )
            == 0
        )
    # they count for a moment, and no longer
    assert len(routes._clients) == MOST_CLIENTS
    assert routes.packet(first(), ROBOT, 0.0) == 1
    routes.forget(100.0, 60.0)
    assert routes.packet(first(), OTHER, 100.0) == 0
