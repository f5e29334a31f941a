"""Wrong API keys are counted together by the servers of a process."""

import threading
import time

import pytest
from quic_peers import LONG

from flash_transport import AuthenticationFailed, FlashTransportPolicy, QuicServer

FREE = 9
"""Wrong keys after which an address waits."""
FIRST_DELAY = 0.25
"""s."""


def ask(server, key):
    with FlashTransportPolicy("127.0.0.1", server.port, api_key=key) as policy:
        policy.infer({}, timeout=LONG)


def answer_one(server):
    request = server.next_request(LONG)
    if request is not None:
        request.respond({})


def seconds_to_be_let_in(server):
    answering = threading.Thread(target=answer_one, args=(server,))
    answering.start()
    began = time.perf_counter()
    ask(server, "right")
    answering.join()
    return time.perf_counter() - began


def test_keys_that_were_tried_at_one_port_are_as_slow_at_another():
    with (
        QuicServer("127.0.0.1", 0, metadata={}, api_keys=["right"]) as tried,
        QuicServer("127.0.0.1", 0, metadata={}, api_keys=["right"]) as other,
    ):
        other.share_refusals(tried)
        for _ in range(FREE):
            with pytest.raises(AuthenticationFailed):
                ask(tried, "wrong")
        # the count is the other's, too: a lower bound, which a busy machine only raises
        assert seconds_to_be_let_in(other) >= FIRST_DELAY
