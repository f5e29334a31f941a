"""First actions from a server that keeps to no rules, and for asyncio."""

import asyncio

import numpy as np
import pytest
from quic_peers import LONG, Served
from quic_strangers_server import StrangersServer, self_signed, strangers_server

from flash_transport import CodecError, FlashTransportPolicy, aio, packb

CHUNK = np.arange(8, dtype=np.float32).reshape(4, 2)
GIVES = {"supports": ["first_actions"]}
WHOLE = b"\x00" + packb({"actions": CHUNK})


def part(steps=2):
    return packb({"actions": CHUNK[:steps]})


def framed(first, length=None):
    length = len(first) if length is None else length
    return b"\x02" + length.to_bytes(4, "little") + first


class GivingServer(StrangersServer):
    """Says that it gives first actions."""

    def respond(self, stream, request):
        if request[0] == 0x01:
            self._quic.send_stream_data(stream, b"\x00" + packb(GIVES), end_stream=True)
            self.transmit()
        else:
            super().respond(stream, request)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificate")
    self_signed(directory)
    return directory


@pytest.fixture(params=[FlashTransportPolicy, aio.FlashTransportPolicy], ids=["native", "aioquic"])
def client(request):
    return request.param


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param(framed(part()) * 2 + WHOLE, "0x02|first actions", id="twice"),
        pytest.param(WHOLE + framed(part()), "", id="after the answer"),
        pytest.param(framed(part(3)) + WHOLE, r"expected \[2, action_dim\]", id="too long"),
        pytest.param(framed(part(1)) + WHOLE, r"expected \[2, action_dim\]", id="too short"),
        pytest.param(framed(part(), 2**32 - 1) + WHOLE, "", id="a length beyond all bounds"),
        pytest.param(framed(part(), len(part()) + 1) + WHOLE, "", id="a length of one too many"),
        pytest.param(framed(part(), len(part()) - 1) + WHOLE, "", id="a length of one too few"),
        pytest.param(framed(b"") + WHOLE, "", id="empty"),
        pytest.param(framed(b"\x90") + WHOLE, "first actions|no map", id="no map"),
        pytest.param(framed(packb({"actions": 1.0})) + WHOLE, "first actions", id="no array"),
        pytest.param(framed(part()), "empty", id="no answer"),
        pytest.param(framed(part())[:20], "0x02|first actions", id="cut off"),
        pytest.param(b"\x02", "0x02|first actions", id="a kind without a length"),
    ],
)
def test_a_server_that_breaks_the_rules_gets_no_second_action_played(
    certificate, client, answer, message
):
    with (
        strangers_server(certificate, lambda request: answer, kind=GivingServer) as port,
        client("127.0.0.1", port) as policy,
    ):
        policy.get_server_metadata()
        future = policy.submit({}, LONG, first_actions=2)
        with pytest.raises(CodecError, match=message):
            future.result(LONG)
        assert future.first_actions.done()
        if future.first_actions.exception() is None:
            assert future.first_actions.result()["actions"].tolist() == CHUNK[:2].tolist()
        # the connection is as good as before
        assert policy.get_server_metadata() == GIVES


def test_first_actions_that_nobody_asked_for_are_no_answer(certificate, client):
    answer = framed(part()) + WHOLE
    with (
        strangers_server(certificate, lambda request: answer, kind=GivingServer) as port,
        client("127.0.0.1", port) as policy,
        pytest.raises(CodecError, match="0x02|first actions"),
    ):
        policy.infer({}, LONG)


def test_a_coroutine_gets_first_actions_before_its_answer():
    ends = []

    def answer(request):
        request.send_first_actions({"actions": CHUNK[:2]})
        request.respond({"actions": CHUNK})

    async def ask(port):
        async with aio.AsyncFlashTransportPolicy("127.0.0.1", port) as policy:
            whole = await policy.infer({}, LONG, first_actions=2, on_first_actions=ends.append)
            ends.append(whole)

    with Served(answer, metadata=GIVES) as served:
        asyncio.run(ask(served.port))
    assert [len(end["actions"]) for end in ends] == [2, 4]


def test_a_coroutine_gets_the_first_actions_of_a_whole_answer():
    ends = []

    async def ask(port):
        async with aio.AsyncFlashTransportPolicy("127.0.0.1", port) as policy:
            await policy.infer({}, LONG, first_actions=2, on_first_actions=ends.append)

    with Served(lambda request: request.respond({"actions": CHUNK}), metadata=GIVES) as served:
        asyncio.run(ask(served.port))
    assert [len(end["actions"]) for end in ends] == [2]


def test_what_a_coroutines_function_raises_ends_its_request_only():
    def answer(request):
        if "first_actions" in request.observation:
            request.send_first_actions({"actions": CHUNK[:2]})
        request.respond({"actions": CHUNK})

    def refuse(first):
        raise ZeroDivisionError(len(first["actions"]))

    async def ask(port):
        async with aio.AsyncFlashTransportPolicy("127.0.0.1", port) as policy:
            with pytest.raises(ZeroDivisionError):
                await policy.infer({}, LONG, first_actions=2, on_first_actions=refuse)
            with pytest.raises(ValueError, match="belong together"):
                await policy.infer({}, LONG, first_actions=2)
            return await policy.infer({}, LONG)

    with Served(answer, metadata=GIVES) as served:
        assert len(asyncio.run(ask(served.port))["actions"]) == 4
