"""What the fall-back may be."""

import pytest

from flash_transport.auto.fallback import fallback_port, fallback_to, is_loopback


def ways(host="10.0.0.5", *, pinned=False, key=False, allowed=False):
    found = fallback_to(
        host, 8000, is_authenticated=pinned, has_key=key, is_insecure_allowed=allowed
    )
    assert found.encrypted.startswith("wss://")
    assert bool(found.why_not_plain) == (found.plain is None)
    return found


def test_without_a_secret_and_a_pin_a_server_without_tls_may_be_used():
    assert ways().plain == "ws://10.0.0.5:8000"


@pytest.mark.parametrize("host", ["10.0.0.5", "127.0.0.1"])
@pytest.mark.parametrize("key", [False, True])
def test_a_server_that_quic_verifies_is_never_reached_without_tls(host, key):
    assert ways(host, pinned=True, key=key).plain is None


def test_a_key_leaves_the_computer_only_encrypted():
    assert "api key" in ways(key=True).why_not_plain
    assert ways("127.0.0.1", key=True).plain == "ws://127.0.0.1:8000"


def test_the_user_may_allow_it():
    assert ways(pinned=True, key=True, allowed=True).plain == "ws://10.0.0.5:8000"


def test_ipv6_addresses_are_written_in_brackets():
    assert ways("::1").plain == "ws://[::1]:8000"


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("LocalHost.", True),
        ("10.0.0.5", False),
        ("gpu", False),
        ("127.0.0.1.example.com", False),
        ("localhost.example.com", False),
    ],
)
def test_only_this_computer_is_loopback(host, is_here):
    assert is_loopback(host) is is_here


def test_the_websocket_port_is_the_one_beside_the_quic_port():
    assert fallback_port(5555, None) == 8000
    assert fallback_port(5556, None) == 8002
    assert fallback_port(5557, None) is None
    assert fallback_port(5557, 9000) == 9000
