"""Messages that are cut, nested or huge: each is refused, costs no memory, and ends nothing."""

import resource

import pytest
from quic_peers import Served
from quic_stranger import HELLO, error_of, speak


def nested(levels):
    return b"\x81\xa1x" + b"\x91" * levels + b"\xc0"


def array(shape):
    """An array of one byte that claims another shape."""
    sizes = b"".join(b"\xce" + size.to_bytes(4, "big") for size in shape)
    entries = (
        b"\xc4\x0b__ndarray__\xc3"
        b"\xc4\x04data\xc4\x01\x00"
        b"\xc4\x05dtype\xa3|u1"
        b"\xc4\x05shape" + bytes([0x90 + len(shape)]) + sizes
    )
    return b"\x81\xa1x\x84" + entries


LARGE = 0xFFFF_FFFF
FOUR_BILLION = b"\xff\xff\xff\xff"

BROKEN = {
    "nothing": b"",
    "a text that is cut": b"\x81\xa5sta",
    "a list": b"\x90",
    "bytes after the end": b"\x80\x80",
    "nested one level too deep": nested(65),
    "nested a million times": nested(1_000_000),
    "a list of four billion": b"\x81\xa1x\xdd" + FOUR_BILLION,
    "a map of four billion": b"\xdf" + FOUR_BILLION,
    "a text of four billion bytes": b"\x81\xa1x\xdb" + FOUR_BILLION + b"x",
    "bytes of four billion": b"\x81\xa1x\xc6" + FOUR_BILLION + b"x",
    "an array larger than its data": array([LARGE]),
    "an array whose size overflows": array([LARGE, LARGE, LARGE]),
    "an array of objects": array([1]).replace(b"|u1", b"|O8"),
    "an extension": b"\x81\xa1x\xd4\x01\x00",
}


def most_resident_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def answer_keys(request):
    request.respond({"keys": sorted(request.observation)})


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_observation_is_refused_and_costs_no_memory(name):
    async def conversation(client):
        await client.ask(HELLO)
        before = most_resident_bytes()
        answer = await client.ask(b"\x02" + BROKEN[name])
        growth = most_resident_bytes() - before
        return answer, growth, await client.ask(b"\x02\x80")

    with Served(answer_keys) as served:
        answer, growth, after = speak(served.port, conversation)
    assert error_of(answer)[0] == "bad_request"
    assert growth < 32 << 20, f"{growth} bytes for a message of {len(BROKEN[name])}"
    assert after == b"\x00\x81\xa4keys\x90"


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_hello_is_refused_and_a_good_one_may_follow(name):
    async def conversation(client):
        answer = await client.ask(b"\x01" + BROKEN[name])
        return answer, await client.ask(HELLO)

    with Served() as served:
        answer, after = speak(served.port, conversation)
        # unknown fields are ignored, but must be msgpack
        assert error_of(answer)[0] == "bad_request"
        assert after == b"\x00\x80"


def test_the_deepest_message_that_is_allowed_is_read():
    async def conversation(client):
        await client.ask(HELLO)
        return await client.ask(b"\x02" + nested(62))

    with Served(answer_keys) as served:
        assert speak(served.port, conversation) == b"\x00\x81\xa4keys\x91\xa1x"
