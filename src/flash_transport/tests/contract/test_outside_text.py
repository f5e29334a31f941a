"""Text from outside: at most 200 characters of it in an error, and no control character."""

import pytest
from contract_handlers import failing
from openpi_server import serving as serving_openpi
from quic_peers import LONG

from flash_transport import FlashTransportError, ServerError, WebsocketPolicy
from flash_transport.outside_text import quoted, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fold the towel", "fold the towel"),
        ("größer als 5 µm", "größer als 5 µm"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x1b[2J\x08\x7f\x00", r"\x1b[2J\x08\x7f\x00"),
        ("\u202eabc\u2028", r"\u202eabc\u2028"),
        ("\ud800", r"\ud800"),
        pytest.param("x" * 200, "x" * 200, id="200"),
        pytest.param("x" * 201, "x" * 199 + "…", id="201"),
        pytest.param("\0" * 60, r"\x00" * 49 + r"\x0…", id="60 NULs"),
    ],
)
def test_a_text_is_shown_on_one_line(text, expected):
    assert shown(text) == expected
    assert shown(text).isprintable()


def test_a_quote_in_a_quoted_text_does_not_end_it():
    assert quoted('a"b\\c\n') == r'"a\"b\\c\n"'


@pytest.mark.parametrize("code", ["bad_request", "superseded", "unauthenticated", "internal"])
def test_a_huge_message_of_a_server_makes_no_huge_error(serving, code):
    with serving(failing(code, "\x1b[2J" + "x" * (1 << 20))).connect() as policy:
        with pytest.raises(FlashTransportError) as raised:
            policy.infer({}, timeout=LONG)
        text = str(raised.value)
    assert len(text) <= 1000
    assert text.isprintable()
    assert r"\x1b[2Jxxx" in text


def test_a_server_error_keeps_all_that_an_openpi_server_said():
    traceback = (
        "Traceback (most recent call last):\n  File \"policy.py\", line 1\nKeyError: 'state'\n"
    )
    with (
        serving_openpi(lambda observation, number: traceback) as server,
        WebsocketPolicy("127.0.0.1", server.port) as policy,
        pytest.raises(ServerError) as raised,
    ):
        policy.infer({}, timeout=LONG)
    assert raised.value.message == traceback
    assert str(raised.value) == "internal: KeyError: 'state'"


@pytest.mark.parametrize("huge", [1 << 20], ids=["a megabyte"])
def test_an_http_server_that_answers_a_lot_makes_no_huge_error(huge):
    def refuse(connection, request):
        return connection.respond(404, "\x1b" * huge)

    with (
        serving_openpi(process_request=refuse) as server,
        pytest.raises(FlashTransportError) as raised,
    ):
        WebsocketPolicy("127.0.0.1", server.port)
    assert len(str(raised.value)) < 600
    assert str(raised.value).isprintable()
