"""docs/protocol.md is enough for a stranger: a client of aioquic speaks to our server.

The stranger knows the page and aioquic, and nothing of our Rust.
"""

import asyncio

import msgpack
import numpy as np
import pytest
from openpi_client import msgpack_numpy
from quic_peers import Served, echo_together, eventually
from quic_stranger import HELLO, error_of, example, speak

from flash_transport import FlashTransportPolicy, Timeout


def test_the_pages_exchange_is_what_happens_on_the_wire():
    observations = []

    def policy(request):
        observations.append((request.session, request.observation))
        if request.kind == "reset":
            request.respond({})
        else:
            request.fail("bad_request", "no image yet")

    async def exchange(client):
        return [await client.ask(example(name)) for name in ("hello", "infer", "reset")]

    with Served(policy, metadata={"model": "pi05"}) as served:
        answers = speak(served.port, exchange)
    assert answers == [example("hello-answer"), example("infer-error"), example("reset-answer")]
    assert [session for session, _ in observations] == ["arm-7", "arm-7"]
    state = observations[0][1]["state"]
    assert state.dtype == np.float32
    assert state.tolist() == [0.0, 1.0, 2.0]


def test_a_stranger_gets_the_first_actions_of_the_page_ahead():
    chunk = np.arange(3, dtype=np.float32).reshape(3, 1)
    observations = []

    def policy(request):
        observations.append(request.observation)
        request.send_first_actions({"actions": chunk[:2]})
        request.respond({"actions": chunk})

    async def ask(client):
        await client.ask(HELLO)
        return await client.ask(example("first-infer"))

    with Served(policy) as served:
        answer = speak(served.port, ask)
    assert observations == [{"first_actions": 2}]
    assert answer == example("first-infer-answer")
    first, whole = parts_of(answer)
    assert first["actions"].tolist() == chunk[:2].tolist()
    assert whole["actions"].tolist() == chunk.tolist()


def parts_of(answer):
    """First actions and answer, as the page has them."""
    assert answer[0] == 0x02
    end = 5 + int.from_bytes(answer[1:5], "little")
    assert answer[end] == 0x00
    return msgpack_numpy.unpackb(answer[5:end]), msgpack_numpy.unpackb(answer[end + 1 :])


def test_a_stranger_gets_actions_for_images():
    observation = {
        "image": np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8),
        "prompt": "pick up the cube",
    }

    async def ask(client):
        assert (await client.ask(HELLO))[0] == 0x00
        return await client.ask(b"\x02" + msgpack_numpy.packb(observation))

    with Served() as served:
        answer = speak(served.port, ask)
    assert answer[0] == 0x00
    returned = msgpack_numpy.unpackb(answer[1:])["echo"]
    assert np.array_equal(returned["image"], observation["image"])
    assert returned["prompt"] == observation["prompt"]


def test_strangers_requests_on_one_connection_go_side_by_side():
    async def ask(client):
        await client.ask(HELLO)
        requests = [b"\x02" + msgpack.packb({"number": number}) for number in range(4)]
        return await asyncio.gather(*map(client.ask, requests))

    with Served(echo_together(4)) as served:
        answers = speak(served.port, ask)
    numbers = [msgpack.unpackb(answer[1:])["echo"]["number"] for answer in answers]
    assert numbers == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("request_bytes", "code", "message"),
    [
        (b"", "bad_request", "request is empty"),
        (b"\x00\x80", "bad_request", "request starts with byte 0x00, expected one of: 0x01 hello"),
        (b"\xff" * 5000, "bad_request", "request starts with byte 0xff"),
        (b"\x01\x80", "bad_request", "this connection has said hello already"),
        (b"\x01" + b"\xc4" * 70_000, "bad_request", "request is larger than 65536 bytes"),
        (b"\x02", "bad_request", "cut off"),
        (b"\x02\xc1", "bad_request", "0xc1"),
        (b"\x02\x80\x00", "bad_request", "follow"),
        (b"\x02\x90", "bad_request", "observation: expected a map, got list"),
        (b"\x02\xdf\xff\xff\xff\xff", "bad_request", "needs"),
        (b"\x02\xc6\xff\xff\xff\xff", "bad_request", "needs 4294967295 bytes"),
        (b"\x02" + b"\x91" * 100_000, "bad_request", "nests more than"),
        (b"\x03\xc1", "bad_request", "0xc1"),
    ],
)
def test_garbage_is_answered_with_an_error_and_costs_nothing_else(request_bytes, code, message):
    async def ask(client):
        assert (await client.ask(HELLO))[0] == 0x00
        error = error_of(await client.ask(request_bytes))
        return error, await client.ask(b"\x02\x80")

    def policy(request):
        assert isinstance(request.observation, dict)
        request.respond({})

    with Served(policy) as served:
        (got_code, got_message), next_answer = speak(served.port, ask)
    assert got_code == code
    assert message in got_message
    assert next_answer == b"\x00\x80"


@pytest.mark.parametrize(
    ("hello", "message"),
    [
        (b"\x01", "hello is no valid message: message is cut off"),
        (b"\x01\x90", "hello must be a map"),
        (b"\x01\x80\x80", "follow the end of the message"),
        (b"\x01" + b"\x91" * 1000, "nests more than"),
    ],
)
def test_a_malformed_hello_is_refused_and_a_good_one_may_follow(hello, message):
    async def ask(client):
        return error_of(await client.ask(hello)), await client.ask(HELLO)

    with Served() as served:
        (code, got_message), welcome = speak(served.port, ask)
    assert code == "bad_request"
    assert message in got_message
    assert welcome[0] == 0x00


def test_what_is_no_arrays_dtype_is_a_bad_request():
    pickled = {b"__ndarray__": True, b"data": b"x" * 8, b"dtype": "|O", b"shape": [1]}

    async def ask(client):
        await client.ask(HELLO)
        return error_of(await client.ask(b"\x02" + msgpack.packb({"state": pickled})))

    with Served() as served:
        code, message = speak(served.port, ask)
    assert code == "bad_request"
    assert '"|O" is not supported' in message


def test_requests_may_leave_behind_a_hello_without_its_answer():
    async def ask(client):
        requests = (HELLO, b"\x02" + msgpack.packb({"number": 1}), b"\x03\x80")
        return await asyncio.gather(*map(client.ask, requests))

    with Served(lambda request: request.respond(request.observation)) as served:
        answers = speak(served.port, ask)
    assert answers == [b"\x00\x80", b"\x00" + msgpack.packb({"number": 1}), b"\x00\x80"]


def test_what_overtakes_the_hello_is_held_and_answered_behind_it():
    async def ask(client):
        overtaking = [client.send(kind + b"\x80") for kind in (b"\x02", b"\x03")]
        # a second connection's whole exchange takes longer than an answer would
        await asyncio.to_thread(speak, served.port, lambda other: other.ask(HELLO))
        before = served.server.counters["requests_accepted"]
        hello = await client.ask(HELLO)
        return before, hello, [await client.answer(stream) for stream in overtaking]

    with Served(lambda request: request.respond({})) as served:
        answers = speak(served.port, ask)
        assert answers == (0, b"\x00\x80", [b"\x00\x80"] * 2)
        assert served.server.counters["requests_accepted"] == 2


def test_what_follows_a_hello_with_a_wrong_key_never_comes_to_the_policy():
    async def ask(client):
        client.send(b"\x02\x80")
        hello = client.send(b"\x01" + msgpack.packb({"api_key": "wrong"}))
        client.send(b"\x02\x80")
        return error_of(await client.answer(hello)), (await client.terminated).error_code

    with Served(api_keys=["right"]) as served:
        (code, _), end = speak(served.port, ask)
        assert (code, end) == ("unauthenticated", 0x03)
        assert served.server.counters["requests_accepted"] == 0


def test_what_follows_a_hello_to_a_server_that_warms_up_is_not_begun():
    async def ask(client):
        requests = (HELLO, b"\x02\x80")
        return [error_of(answer)[0] for answer in await asyncio.gather(*map(client.ask, requests))]

    with Served(metadata=None) as served:
        assert speak(served.port, ask) == ["not_ready"] * 2
        assert served.server.counters["requests_accepted"] == 0


def test_a_wrong_key_is_answered_and_then_the_connection_is_closed():
    async def ask(client):
        answer = await client.ask(b"\x01" + msgpack.packb({"api_key": "wrong"}))
        return error_of(answer), await client.terminated

    with Served(api_keys=["right"]) as served:
        (code, _), terminated = speak(served.port, ask)
    assert code == "unauthenticated"
    assert terminated.error_code == 0x03


def test_a_request_beyond_the_limit_is_stopped_and_answered():
    async def ask(client):
        await client.ask(HELLO)
        stream = client.send(b"\x02" + b"x" * 3_000_000, end=False)
        answer = await client.answer(stream)
        return error_of(answer), client.stopped[stream]

    with Served(max_message_bytes=1_000_000) as served:
        error, stopped = speak(served.port, ask)
    assert error == ("bad_request", "request is larger than 1000000 bytes")
    assert stopped == 0x02


def test_a_stopped_answer_cancels_the_request():
    held = []

    async def ask(client):
        await client.ask(HELLO)
        stream = client.send(b"\x02\x80")
        await asyncio.to_thread(eventually, lambda: held)
        client.cancel(stream, sent=True)
        await asyncio.to_thread(eventually, lambda: held[0].cancelled)
        return await client.ask(HELLO)

    with Served(held.append) as served:
        code, _ = error_of(speak(served.port, ask))
    assert code == "bad_request"


def test_a_request_reset_on_its_way_never_comes_to_the_policy():
    async def ask(client):
        await client.ask(HELLO)
        client.cancel(client.send(b"\x02" + b"x" * 100_000, end=False), sent=False)
        return await client.ask(b"\x02\x80")

    with Served(lambda request: request.respond({})) as served:
        assert speak(served.port, ask) == b"\x00\x80"
        counters = served.server.counters
        assert counters["requests_accepted"] == 1


def test_a_stranger_of_another_protocol_is_refused_in_the_handshake():
    async def ask(client):
        return "connected"

    with Served() as served:
        with pytest.raises(ConnectionError):
            speak(served.port, ask, alpn="h3")
        eventually(lambda: served.server.counters["handshakes_failed"] == 1)
        assert speak(served.port, ask) == "connected"


def test_a_stranger_that_vanishes_disturbs_nobody():
    held = []

    async def vanish(client):
        await client.ask(HELLO)
        client.send(b"\x02\x80")
        await asyncio.to_thread(eventually, lambda: held)

    with Served(held.append) as served:
        speak(served.port, vanish)
        eventually(lambda: held[0].cancelled)
        with FlashTransportPolicy("127.0.0.1", served.port) as policy, pytest.raises(Timeout):
            policy.infer({}, timeout=0.01)
