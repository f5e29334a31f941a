"""The forms of a host: which are taken, and what the refusal of the others says."""

import json
from pathlib import Path

import pytest

from flash_transport import FlashTransportPolicy, WebsocketPolicy, aio
from flash_transport.address import parse_address
from flash_transport.websocket.target import Target, parse_target

CASES = json.loads((Path(__file__).parents[1] / "data" / "hosts.json").read_text())
"""The compiled half is held to the same table."""
TAKEN = [case for case in CASES if "host" in case["expect"]]
REFUSED = [case for case in CASES if "error" in case["expect"]]
CLIENTS = {
    "quic": FlashTransportPolicy,
    "websocket": WebsocketPolicy,
    "aioquic": aio.FlashTransportPolicy,
    "asyncio": aio.AsyncFlashTransportPolicy,
}


def names(cases):
    return [f"{case['host']!a}, {case['port']}"[:60] for case in cases]


def test_there_are_cases_of_both_kinds():
    assert len(TAKEN) >= 15
    assert len(REFUSED) >= 40


@pytest.mark.parametrize("case", TAKEN, ids=names(TAKEN))
def test_a_host_is_taken_apart(case):
    address = parse_address(case["host"], case["port"])
    assert {"host": address.host, "port": address.port} == case["expect"]


@pytest.mark.parametrize("case", REFUSED, ids=names(REFUSED))
def test_what_is_no_host_is_refused_and_the_reason_said_on_one_line(case):
    with pytest.raises(ValueError, match="host|port") as refused:
        parse_address(case["host"], case["port"])
    text = str(refused.value)
    assert case["expect"]["error"] in text
    assert text.isprintable()


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("0.0.0.0", 5555, "listens on"),
        ("::", None, "listens on"),
        ("gpu:5555", 5556, "5556"),
        ("gpu lab", None, "space"),
        ("", None, "empty"),
        ("gpu", 0, "from 1 to 65535"),
        ("gpu\x1b[2J", None, r"\\x1b"),
        (None, None, "expected text"),
        ("gpu", "5555", "whole number from 1 to 65535"),
    ],
)
def test_every_client_refuses_at_once_what_is_no_host(client, host, port, reason):
    with pytest.raises(ValueError, match=reason):
        client(host, port)


HUGE = {"name": "x", "port": "x:9", "control characters": "\x1b"}


@pytest.mark.parametrize("start", HUGE.values(), ids=HUGE)
def test_a_huge_host_makes_no_huge_error(start):
    with pytest.raises(ValueError, match="host") as refused:
        parse_address(start + start[-1] * (30 << 20))
    assert len(str(refused.value)) < 500


def test_a_password_in_a_host_is_not_shown():
    for host in ("user:sesame@gpu", "ws://user:sesame@gpu/", "quic://user:sesame@gpu"):
        for parse in (parse_address, parse_target):
            with pytest.raises(ValueError, match="host") as refused:
                parse(host, None)
            assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "port", "uri"),
    [
        ("gpu", None, "ws://gpu:8000"),
        ("gpu:9000", None, "ws://gpu:9000"),
        ("::1", None, "ws://[::1]:8000"),
        ("[::1]:9000", None, "ws://[::1]:9000"),
        ("ws://gpu", None, "ws://gpu:80"),
        ("wss://gpu", None, "wss://gpu:443"),
        ("WSS://gpu/a", 9000, "wss://gpu:9000/a"),
        ("wss://[::1]:9000/a/b?c=d", None, "wss://[::1]:9000/a/b?c=d"),
        ("ws://gpu:9000?c=d", 9000, "ws://gpu:9000/?c=d"),
        ("fe80::1%eth0", None, "ws://[fe80::1]:8000"),
    ],
)
def test_a_websocket_server_may_be_named_by_its_uri(host, port, uri):
    assert parse_target(host, port).uri == uri


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("http://gpu", "write ws:// or wss://"),
        ("quic://gpu", "write ws:// or wss://"),
        ("ws://0.0.0.0:8000", "listens on"),
        ("ws://", "empty"),
        ("ws:///path", "empty"),
        ("ws://gpu:x/path", "from 1 to 65535"),
        ("ws://gpu/a#b", "fragment"),
        ("ws://gpu/a b", "percent-encoded"),
        ("ws://gpu/a\r\nX: y", "percent-encoded"),
    ],
)
def test_what_is_no_uri_of_a_websocket_server_is_refused(host, reason):
    with pytest.raises(ValueError, match=reason) as refused:
        parse_target(host, None)
    assert str(refused.value).isprintable()


def test_messages_show_neither_the_query_of_a_uri_nor_lose_the_zone_of_an_address():
    assert str(parse_target("wss://gpu/a?token=sesame", None)) == "wss://gpu:443/a?…"
    assert str(parse_target("fe80::1%eth0", None)) == "ws://[fe80::1%eth0]:8000"
    assert parse_target("gpu", None) == Target("gpu", 8000)
