"""How events look."""

import io
import logging

import pytest

from openpi_flash_server import logs


@pytest.fixture
def lines():
    """What is logged, line by line, without the time."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    levels = {name: logging.getLogger(name).level for name in logs.OURS}
    logs.configure(stream=stream)
    yield lambda: [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()]
    root.handlers[:], root.level = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_an_event_is_one_line_with_its_fields(lines):
    log = logs.EventLogger("openpi_flash_server.test")
    log.info("slot warm", slot="action", ms=12.345, path="/a b", empty="")
    assert lines() == ["info    slot warm  slot=action ms=12.3 path='/a b' empty=''"]


def test_a_line_starts_with_the_time_in_utc():
    record = logging.makeLogRecord({"created": 1e9 + 0.25, "levelname": "INFO", "msg": "hello"})
    assert logs.LineFormatter().format(record) == "2001-09-09T01:46:40.250Z info    hello"


def test_a_field_cannot_forge_a_line(lines):
    logs.EventLogger("openpi_flash_server.test").info("bad request", reason="x\n2026 info forged")
    assert lines() == ["info    bad request  reason='x\\n2026 info forged'"]


def test_an_exception_follows_its_line(lines):
    log = logs.EventLogger("openpi_flash_server.test")
    try:
        raise ValueError("what")
    except ValueError as error:
        log.error("request failed", exception=error, slot="action")
    written = lines()
    assert written[0] == "error   request failed  slot=action"
    assert written[-1] == "what"


def test_other_libraries_are_heard_from_warning_up(lines):
    logging.getLogger("jax").info("chatter")
    logging.getLogger("jax").warning("trouble")
    logs.EventLogger("openpi_flash_server.test").debug("detail")
    assert lines() == ["warning trouble"]


def test_a_warning_of_the_transport_is_said_once(lines):
    for message in ("buffers are small", "buffers are small", "other"):
        logging.getLogger("flash_transport").warning(message)
    assert lines() == ["warning buffers are small", "warning other"]
