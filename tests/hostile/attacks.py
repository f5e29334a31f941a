"""Requests that cost their sender little and aim to cost the server much, and an honest one."""

from __future__ import annotations

import numpy as np

from flash_transport import jpeg_message

STATE = {"state": np.zeros(8, np.float32)}
MEGABYTE = 1 << 20


def honest():
    """A request of a megabyte that the server answers."""
    return STATE | {"image": np.zeros((512, 682, 3), np.uint8)}


def million_maps():
    """A byte each, an object each."""
    return STATE | {"maps": [{}] * 1_000_000}


def million_texts():
    """Two bytes each, an object each."""
    return STATE | {"texts": ["ab"] * 350_000}


def long_prompt():
    """A text that a tokenizer would read."""
    return STATE | {"prompt": "pick " * (MEGABYTE // 5)}


def long_stamp():
    """What the answer would hold again."""
    return STATE | {"observation_stamp": b"x" * MEGABYTE}


def claimed_pixels():
    """A file of a kilobyte whose header claims 64 MB of pixels."""
    message = jpeg_message(np.zeros((48, 64, 3), np.uint8))
    data = bytearray(message["data"])
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = (4096).to_bytes(2, "big") + (5461).to_bytes(2, "big")
    return STATE | {"image": message | {"data": bytes(data)}}


ATTACKS = ("million_maps", "million_texts", "long_prompt", "long_stamp", "claimed_pixels")
"""Each is answered `bad_request`."""
