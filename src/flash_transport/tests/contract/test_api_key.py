"""An API key appears in no message, whatever is wrong with it, over every transport."""

import logging
import traceback

import pytest
from contract_handlers import echo
from quic_peers import LONG

from flash_transport import AuthenticationFailed, FlashTransportPolicy, WebsocketPolicy, aio
from flash_transport.api_key import checked_api_key

SECRET = "sesame-17"
MALFORMED = {
    SECRET + "\n": "a line feed as character 10",
    SECRET + "\r\nX-Other: 1": "a carriage return as character 10",
    "\0" + SECRET: "a NUL as character 1",
    SECRET + "\t": "a tab",
    SECRET + "\x1b[2J": "a control character",
    SECRET + "\x7f": "a control character",
    SECRET + "é": "not ASCII",
    SECRET + "\u2028": "not ASCII",
    SECRET + "\ud800": "not ASCII",
    SECRET + " ": "starts or ends with a space",
    " " + SECRET: "starts or ends with a space",
    SECRET * 200: "has 1800 characters, at most 1024",
    SECRET.encode(): "is bytes, expected text",
}
CLIENTS = {
    "quic": FlashTransportPolicy,
    "websocket": WebsocketPolicy,
    "aioquic": aio.FlashTransportPolicy,
    "asyncio": aio.AsyncFlashTransportPolicy,
    "unix": lambda *_, **options: FlashTransportPolicy("unix:/nowhere", **options),
}


def everything_of(error):
    """All texts of an error and of those that led to it."""
    seen, texts = [error], []
    for each in seen:
        texts += [str(each), repr(each), repr(vars(each))]
        seen += [e for e in (each.__cause__, each.__context__) if e and e not in seen]
    return "\n".join([*texts, *traceback.format_exception(error)])


def logged_by_the_client(caplog):
    """Without what the server of these tests logs, which is websockets' own."""
    records = [record for record in caplog.records if record.name != "websockets.server"]
    return "\n".join(record.getMessage() for record in records)


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize(("key", "problem"), MALFORMED.items(), ids=list(MALFORMED.values()))
def test_a_malformed_key_is_refused_where_it_is_given_and_not_shown(client, key, problem, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ValueError, match=f"api_key.*{problem}") as refused:
        client("127.0.0.1", 1, api_key=key)
    assert "sesame" not in everything_of(refused.value)
    assert "sesame" not in caplog.text


FIT = {"usual": SECRET, "space": "two words", "signs": "~!\"'\\{}", "longest": "k" * 1024}


@pytest.mark.parametrize("key", FIT.values(), ids=FIT)
def test_a_key_of_printable_ascii_is_sent_as_it_is(serving, key):
    assert checked_api_key(key) == key
    with serving(echo, api_keys=[key]).connect(api_key=key) as policy:
        assert policy.infer({"a": 1}, timeout=LONG) == {"echo": {"a": 1}}


@pytest.mark.parametrize("nothing", [None, ""])
def test_an_empty_key_is_none(nothing):
    assert checked_api_key(nothing) is None


def test_a_refused_key_is_not_shown(serving, caplog):
    caplog.set_level(logging.DEBUG)
    endpoint = serving(echo, api_keys=["another"])
    with (
        pytest.raises(AuthenticationFailed) as refused,
        endpoint.connect(api_key=SECRET) as policy,
    ):
        policy.infer({}, timeout=LONG)
    assert "sesame" not in everything_of(refused.value)
    assert "sesame" not in logged_by_the_client(caplog)


def test_a_key_that_is_let_in_is_not_logged(serving, caplog):
    caplog.set_level(logging.DEBUG)
    with serving(echo, api_keys=[SECRET]).connect(api_key=SECRET) as policy:
        policy.infer({}, timeout=LONG)
        assert "sesame" not in repr(policy)
    assert "sesame" not in logged_by_the_client(caplog)
