"""A client whose server nothing authenticates says so, once."""

import logging

import pytest
from quic_peers import LONG, Served, Serving

from flash_transport import FlashTransportPolicy, LocalServer, aio, unpinned

CLIENTS = {"quic": FlashTransportPolicy, "aioquic": aio.FlashTransportPolicy}


@pytest.fixture(params=CLIENTS.values(), ids=CLIENTS)
def client(request):
    return request.param


@pytest.fixture
def warnings_of(caplog, monkeypatch):
    monkeypatch.setattr(unpinned, "_WARNED", set())
    caplog.set_level(logging.WARNING, "flash_transport")
    return lambda: [r.getMessage() for r in caplog.records if "not authenticated" in r.msg]


def test_a_client_whose_server_is_not_authenticated_says_so_once(client, warnings_of):
    with Served() as served, Served() as other:
        for _ in range(2):
            client("127.0.0.1", served.port).close()
        (warning,) = warnings_of()
        assert f"127.0.0.1:{served.port} is not authenticated" in warning
        client("127.0.0.1", other.port).close()
        assert len(warnings_of()) == 2


def test_a_client_whose_server_is_authenticated_says_nothing(client, warnings_of, tmp_path):
    with Served() as served:
        fingerprint = served.server.fingerprint
        client("127.0.0.1", served.port, server_fingerprint=fingerprint).close()
        client("127.0.0.1", served.port, known_servers=tmp_path / "known").close()
    assert warnings_of() == []


def test_the_warning_of_the_client_over_aioquic_says_which_fingerprint_to_compare(warnings_of):
    with Served() as served:
        aio.FlashTransportPolicy("127.0.0.1", served.port).close()
        assert served.server.fingerprint in warnings_of()[0]


def test_a_unix_socket_needs_no_authentication(warnings_of, tmp_path):
    path = tmp_path / "policy.sock"
    with (
        Serving(LocalServer(path, metadata={})),
        FlashTransportPolicy(f"unix:{path}") as policy,
    ):
        policy.infer({}, timeout=LONG)
    assert warnings_of() == []
