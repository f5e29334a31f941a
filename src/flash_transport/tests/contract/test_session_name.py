"""Session names are checked where they are given."""

import pytest
from quic_peers import LONG, Served

from flash_transport import FlashTransportPolicy, aio

CLIENTS = [FlashTransportPolicy, aio.FlashTransportPolicy, aio.AsyncFlashTransportPolicy]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("session", "problem"),
    [
        ("\0action slot", r"the control character \\x00"),
        ("arm\x1b[2J", r"the control character \\x1b"),
        ("arm\n", r"the control character \\n"),
        ("arm\u202e", r"the control character \\u202e"),
        ("arm\ufeff", r"the control character \\ufeff"),
        ("arm\x85", r"the control character \\x85"),
        ("a" * 129, "129 characters, at most 128"),
        (b"arm", "bytes, expected text"),
    ],
)
def test_what_is_no_session_name_is_refused(client, session, problem):
    with pytest.raises(ValueError, match=f"session .*{problem}"):
        client("127.0.0.1", 1, session=session)


@pytest.mark.parametrize("client", CLIENTS[:2])
@pytest.mark.parametrize(
    "session", ["arm", "", "left arm 7", "Ärmchen", "left\u00a0arm", "\ue000", "a" * 128]
)
def test_a_session_name_comes_to_the_server_as_it_is(client, session):
    with Served() as served, client("127.0.0.1", served.port, session=session) as policy:
        assert policy.infer({}, timeout=LONG)["session"] == session
