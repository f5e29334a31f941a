"""TCP attempts that overlap: an outage is over for the client soon after it is over."""

import socket
import time
from pathlib import Path

import pytest
from quic_peers import eventually, thread_results

from flash_transport.deadline import Deadline
from flash_transport.websocket.staggered import MOST_UNDER_WAY, connected_socket

LONG = 30.0
SYN_SENT = "02"


def within(seconds):
    return Deadline.after(seconds, time.monotonic())


def attempts_to(port):
    """Sockets of this computer that connect to the port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == SYN_SENT for row in rows)


@pytest.fixture
def deaf():
    """A listening socket whose kernel drops every first packet, because its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with socket.create_connection(listener.getsockname(), timeout=LONG):
            yield listener


def test_attempts_go_on_while_earlier_ones_are_unanswered(deaf):
    port = deaf.getsockname()[1]
    with thread_results(lambda: connected_socket([("127.0.0.1", port)], within(LONG))) as results:
        eventually(lambda: attempts_to(port) >= 3)
        deaf.accept()[0].close()
        eventually(lambda: results[0] is not None)
    with results[0] as connected:
        assert connected.getpeername()[1] == port
        assert connected.gettimeout() is None


def test_the_number_of_attempts_under_way_is_bounded(deaf):
    port = deaf.getsockname()[1]
    most = 0
    with thread_results(lambda: connected_socket([("127.0.0.1", port)], within(4.0))) as results:
        while results[0] is None:
            most = max(most, attempts_to(port))
            time.sleep(0.05)
    assert isinstance(results[0], TimeoutError)
    assert 3 <= most <= MOST_UNDER_WAY
    assert attempts_to(port) == 0


def test_an_address_that_refuses_leaves_the_next_one_its_turn_at_once():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with connected_socket([("127.0.0.2", port), ("127.0.0.1", port)], within(LONG)) as found:
            assert found.getpeername() == ("127.0.0.1", port)


def test_refusals_of_all_addresses_end_the_wait():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        addresses = [("127.0.0.1", closed.getsockname()[1])] * 2
        with pytest.raises(ConnectionRefusedError):
            connected_socket(addresses, within(LONG))


def test_no_address_is_an_error():
    with pytest.raises(OSError, match="no address"):
        connected_socket([], within(LONG))
