"""Texts, stamps and images of a request are bounded before they cost anything."""

import numpy as np
import pytest
from server_fakes import CLIENT, WAIT, FakePolicy, Inbox, open_with

from flash_transport import jpeg_message, packb
from openpi_flash_models.errors import ObservationError
from openpi_flash_server.config.limit_settings import LimitSettings
from openpi_flash_server.config.request_limits import RequestLimits
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.slot.request_check import check_request
from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.slot.work import parse_message

LIMITS = RequestLimits(image_pixels=2 * 48 * 64, text_characters=20, stamp_bytes=16)
IMAGE = jpeg_message(np.zeros((48, 64, 3), np.uint8))


def check(message):
    check_request(parse_message(message, session="robot"), LIMITS)


def claiming(rows, columns):
    """A JPEG whose header claims a size; the rest is of 48 by 64."""
    data = bytearray(IMAGE["data"])
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = rows.to_bytes(2, "big") + columns.to_bytes(2, "big")
    return IMAGE | {"data": bytes(data)}


@pytest.mark.parametrize(
    "message",
    [
        {"prompt": "x" * 20},
        {"prompt": np.array("x" * 20)},
        {"prompt": b"x" * 20},
        {"images": {"a": IMAGE, "b": IMAGE}},
        {"observation_stamp": 1.5},
        {"observation_stamp": {"frame": 12}},
        {"state": list(range(1000))},
        # decoding says what is wrong with it
        {"images": {"a": {"__image__": "jpeg", "data": b"GIF89a"}}},
    ],
)
def test_a_request_within_the_limits_is_taken(message):
    check(message)


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({"prompt": "x" * 21}, "prompt: has 21 characters, at most limits.text_characters = 20"),
        ({"prompt": np.array("x" * 21)}, "prompt: has 21 characters"),
        ({"prompt": b"x" * 21}, "prompt: has 21 characters"),
        ({"a": [{"b": "x" * 21}]}, "a/0/b: has 21 characters"),
        ({"k" * 21: 1}, "k: has 21 characters"),
        ({"observation_stamp": "x" * 16}, "observation_stamp: has 17 bytes, at most limits.stamp"),
        ({"observation_stamp": np.zeros(3)}, "observation_stamp: has 24 bytes"),
        (
            {"images": {"a": IMAGE, "b": IMAGE, "c": IMAGE}},
            "images/c: is 48 rows by 64 columns; with it the images have 9216 pixels, at most "
            "limits.image_pixels = 6144",
        ),
        ({"image": claiming(4096, 5461)}, "image: is 4096 rows by 5461 columns"),
    ],
)
def test_a_request_beyond_a_limit_is_refused_by_name(message, problem):
    with pytest.raises(ObservationError) as refusal:
        check(message)
    assert problem in str(refusal.value)


def test_a_small_file_of_many_pixels_is_refused_before_it_waits_or_is_decoded():
    slot, inbox = Slot("action"), Inbox()
    open_with(slot, ActionHandler(FakePolicy()))
    message = {"state": np.zeros(2), "image": claiming(4000, 4000)}
    assert len(packb(message)) < 3000
    slot.receive(
        lambda: message,
        client=CLIENT,
        session="robot",
        respond=inbox,
        is_cancelled=lambda: False,
    )
    answer = inbox.wait()
    assert (answer.code, slot.waiting) == ("bad_request", 0)
    assert "16000000 pixels" in answer.message
    slot.close(grace=WAIT)


def test_the_settings_have_the_defaults_of_the_limits():
    assert LimitSettings().of_a_request == RequestLimits()
