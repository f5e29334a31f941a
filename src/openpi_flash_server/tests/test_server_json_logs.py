"""The log as JSON, for programs; and which of a slot's requests it names."""

import io
import json
import logging

import pytest
from event_makers import answered, failed
from own_log import hear_this_thread_only
from server_fakes import WAIT

from openpi_flash_server.logs import log_output
from openpi_flash_server.logs.events import EventLogger
from openpi_flash_server.slot.event_log import EventLog

LOG = EventLogger("openpi_flash_server.test")


@pytest.fixture
def output():
    """`output(form, is_terminal)` is a function that gives the text logged so far."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    levels = {name: logging.getLogger(name).level for name in log_output.OURS}

    def configure(form="json", *, is_terminal=False):
        stream = io.StringIO()
        stream.isatty = lambda: is_terminal
        out = log_output.configure("info", form=form, stream=stream)
        hear_this_thread_only(before[0])

        def text():
            assert out.flush(timeout=WAIT)
            return stream.getvalue()

        text.put = out.put
        return text

    yield configure
    root.handlers[:], root.level = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def lines(text):
    return [json.loads(line) for line in text().splitlines()]


def test_an_event_is_an_object_with_its_fields_as_they_are(output):
    text = output()
    LOG.info("slot warm", slot="action", ms=12.345, count=3, path=None)
    (line,) = lines(text)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "openpi_flash_server.test",
        "event": "slot warm",
        "slot": "action",
        "ms": 12.345,
        "count": 3,
        "path": None,
    }


def test_a_traceback_is_a_field_without_local_variables(output):
    text = output()
    secret = "hunter2"
    try:
        raise ValueError(f"a key of {len(secret)} characters\n\x1b[2J")
    except ValueError as error:
        LOG.error("request failed", exception=error, slot="action")
    assert "\x1b" not in text()
    (line,) = lines(text)
    (raised,) = line["exception"]
    assert (raised["exc_type"], line["slot"]) == ("ValueError", "action")
    assert raised["frames"][-1]["name"].startswith("test_a_traceback")
    assert "hunter2" not in text()


def test_a_field_cannot_replace_what_the_server_says(output):
    text = output()
    logging.getLogger("openpi_flash_server.test").info(
        "%s", "bad request", extra={"fields": {"event": "all is well", "level": "x", "a": "b"}}
    )
    (line,) = lines(text)
    assert (line["event"], line["level"], line["a"]) == ("bad request", "info", "b")


def test_other_libraries_warnings_and_lines_without_a_level_are_objects_too(output):
    text = output()
    logging.getLogger("a_library").warning("trouble with %s", "a device")
    text.put("Service ready (mode=combined, slots=['action'])")
    assert [line["event"] for line in lines(text)] == [
        "trouble with a device",
        "Service ready (mode=combined, slots=['action'])",
    ]
    assert "Service ready (mode=combined, slots=['action'])" in text(), "scripts wait for it"


def test_an_event_that_json_cannot_hold_is_told_as_one(output):
    text = output()
    LOG.info("measured", ms=float("nan"))
    assert lines(text)[0]["event"] == "an event could not be formatted: ValueError"


@pytest.mark.parametrize(
    ("form", "is_terminal", "is_json"),
    [
        ("auto", True, False),
        ("auto", False, True),
        ("text", False, False),
        ("json", True, True),
    ],
)
def test_people_at_a_terminal_read_text_and_programs_read_json(output, form, is_terminal, is_json):
    text = output(form, is_terminal=is_terminal)
    LOG.info("slot warm", slot="action")
    assert text().startswith("{") == is_json


def test_colours_are_for_terminals_that_want_them(output, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = output("text", is_terminal=True)
    LOG.info("slot warm", slot="\x1b[2J")
    assert "\x1b[1mslot warm" in text()
    assert "\x1b[2J" not in text()
    for terminal in (False, True):
        monkeypatch.setenv("NO_COLOR", "1")
        text = output("text", is_terminal=terminal)
        LOG.info("slot warm")
        assert "\x1b" not in text()


def test_an_error_names_its_session_and_request(output):
    text = output()
    EventLog("action")(failed(7, session="arm"))
    (line,) = lines(text)
    named = ("event", "slot", "session", "request")
    assert [line[key] for key in named] == ["request failed", "action", "arm", 7]


def test_one_answered_request_a_minute_of_each_session_is_written(output):
    text = output()
    log = EventLog("action")
    for number in range(100):
        log(answered(number, at=number / 10))
    log(answered(200, at=10.0, session="other"))
    log(answered(300, at=61.0))
    found = [(line["session"], line["request"], line["times"]) for line in lines(text)]
    assert found == [("arm", 0, 1), ("other", 200, 1), ("arm", 300, 100)]
    assert lines(text)[0]["queue_ms"] == 4.0
