"""How events look, and that nothing from outside changes how they look."""

import io
import logging

import hypothesis
import hypothesis.strategies as st
import pytest
from own_log import hear_this_thread_only
from server_fakes import WAIT

from openpi_flash_server.logs import log_output
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.logs.line_format import text_formatter
from openpi_flash_server.logs.outside_text import LONGEST, shown, shown_lines


@pytest.fixture
def configured():
    """`configured(level)` is a function that gives the lines logged so far, without the time."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    levels = {name: logging.getLogger(name).level for name in log_output.OURS}

    def configure(level="info", form="text"):
        stream = io.StringIO()
        writer = log_output.configure(level, form=form, stream=stream)
        hear_this_thread_only(before[0])

        def lines():
            assert writer.flush(timeout=WAIT)
            return [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()]

        return lines

    yield configure
    root.handlers[:], root.level = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def lines(configured):
    return configured()


LOG = EventLogger("openpi_flash_server.test")


def test_an_event_is_one_line_with_its_fields(lines):
    LOG.info("slot warm", slot="action", ms=12.345, path="/a b", empty="", quoted="it's")
    assert lines() == [
        "info    slot warm  slot=action ms=12.3 path='/a b' empty='' quoted=\"it's\""
    ]


def test_a_line_starts_with_the_time_in_utc():
    record = logging.makeLogRecord({"created": 1e9 + 0.25, "levelname": "INFO", "msg": "hello"})
    assert text_formatter().format(record) == "2001-09-09T01:46:40.250Z info    hello"


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("x\n2026 info forged", "'x\\n2026 info forged'"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\b\x9b1m", "'a\\r\\x08\\x9b1m'"),
        ("a\u2028b\u202ec", "a\\u2028b\\u202ec"),
        ("\ud800", "\\ud800"),
        ('say "x"', "'say \"x\"'"),
    ],
)
def test_a_field_cannot_forge_a_line_or_move_a_cursor(lines, text, rendered):
    LOG.info("bad request", reason=text)
    assert lines() == [f"info    bad request  reason={rendered}"]


def test_an_exception_follows_its_line_indented_and_cannot_forge_one(lines):
    try:
        raise ValueError("what\n2026-05-01T09:30:00.125Z info    forged\x1b[2J")
    except ValueError as error:
        LOG.error("request failed", exception=error, slot="action")
    written = lines()
    assert written[0] == "error   request failed  slot=action"
    assert [line.strip() for line in written[-2:]] == [
        "ValueError: what",
        "2026-05-01T09:30:00.125Z info    forged\\x1b[2J",
    ]
    # without its first space, which stands where an event has its time
    assert all(line.startswith("   ") for line in written[1:])


def test_other_libraries_are_heard_from_warning_up(lines):
    logging.getLogger("a_library").info("chatter")
    logging.getLogger("a_library").warning("trouble")
    LOG.debug("detail")
    assert lines() == ["warning trouble"]


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error", "library warning", "library error"]),
        ("info", ["info", "warning", "error", "library warning", "library error"]),
        ("warning", ["warning", "error", "library warning", "library error"]),
        ("error", ["error", "library error"]),
    ],
)
def test_a_level_shows_itself_and_what_is_above(configured, level, heard):
    lines = configured(level)
    for name in ("debug", "info", "warning", "error"):
        getattr(LOG, name)(name)
    for name in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger("a_library"), name)("library %s", name)
    assert [line.split(maxsplit=1)[1] for line in lines()] == heard


def test_a_warning_of_the_transport_is_said_once(lines):
    for message in ("buffers are small", "buffers are small", "other"):
        logging.getLogger("flash_transport").warning(message)
    assert lines() == ["warning buffers are small", "warning other"]


@hypothesis.given(st.text(max_size=600), st.integers(40, 300))
def test_what_is_shown_is_printable_and_not_longer_than_asked_for(text, longest):
    result = shown(text, longest=longest)
    assert result.isprintable()
    assert len(result) <= longest
    if text.isprintable() and len(text) <= longest:
        assert result == text


def test_of_a_long_text_its_beginning_its_end_and_its_length_are_shown():
    result = shown("observation/" + "x" * 30_000_000 + ": missing")
    assert len(result) <= LONGEST
    assert result.startswith("observation/xxx")
    assert "... (30000021 characters) ..." in result
    assert result.endswith("xxx: missing")


def test_of_many_lines_the_first_and_the_last_are_shown():
    result = shown_lines("\n".join(["first", *["x" * 1000] * 1_000_000, "last"]), most=10)
    assert result.split("\n")[0] == "first"
    assert len(result.split("\n")) == 11
    assert max(len(line) for line in result.split("\n")) <= 300
