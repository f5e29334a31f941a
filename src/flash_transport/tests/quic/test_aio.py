"""The client over aioquic: every test of the compiled one, and what only an event loop can ask."""

import asyncio
import inspect
import subprocess
import sys

import numpy as np
import pytest
import test_quic_errors
import test_quic_faults
import test_quic_infer
import test_quic_start_and_stop
import test_quic_stranger_client
import test_quic_stranger_server
import test_quic_threads
import test_quic_trust
from quic_peers import LONG, Served, echo, eventually, free_udp_port
from test_quic_stranger_server import certificate  # noqa: F401 - a fixture of shared tests
from test_quic_trust import authority  # noqa: F401 - a fixture of shared tests

from flash_transport import CodecError, Disconnected, Timeout
from flash_transport.aio import AsyncFlashTransportPolicy, FlashTransportPolicy

SHARED = (
    test_quic_errors,
    test_quic_faults,
    test_quic_infer,
    test_quic_start_and_stop,
    test_quic_stranger_client,
    test_quic_stranger_server,
    test_quic_threads,
    test_quic_trust,
)
"""Whatever these ask of a client must hold for this one, too."""

NOT_FOR_AIOQUIC = {
    # it hands out what it has received at once, and has no slow reader to be given up
    "test_a_client_that_does_not_read_its_answer_disturbs_nobody",
    # 450 KB take aioquic longer than the 0.2 s of this; below it has a smaller request
    "test_a_timeout_cancels_the_request_at_the_server",
    # 99 KB and its answer in 0.1 s
    "test_requests_that_wait_hold_no_more_than_their_clients_part",
    # 24 MB: half a minute on a busy machine
    "test_a_large_observation_comes_back_bit_for_bit",
    # eight megabytes take aioquic longer than a closing server waits on a busy machine
    "test_an_answer_given_before_closing_arrives",
    # it may wait for its hello's answer, and does
    "test_our_clients_first_request_leaves_before_its_hello_is_answered",
    "test_what_was_lost_behind_an_unanswered_hello_is_not_sent_twice",
    # the settings of quinn
    "test_a_client_says_how_its_link_is_set",
    # warns about the compiled client's sockets
    "test_small_socket_buffers_are_no_secret",
}


def shared_tests():
    for module in SHARED:
        for name, test in vars(module).items():
            is_test = name.startswith("test_") and name not in NOT_FOR_AIOQUIC
            if is_test and "FlashTransportPolicy(" in inspect.getsource(test):
                yield name, test


globals().update(shared_tests())


@pytest.fixture(autouse=True)
def every_client_is_this_one(monkeypatch):
    for module in SHARED:
        if "FlashTransportPolicy" in vars(module):
            monkeypatch.setattr(module, "FlashTransportPolicy", FlashTransportPolicy)


def run(conversation):
    return asyncio.run(asyncio.wait_for(conversation, LONG))


def test_tasks_share_a_client_without_mixing_their_answers():
    async def ask(port):
        async with AsyncFlashTransportPolicy("127.0.0.1", port, session="arm") as policy:
            requests = [policy.infer({"number": number}, timeout=LONG) for number in range(20)]
            answers = await asyncio.gather(*requests)
            await policy.reset()
            return answers, policy.get_server_metadata()

    with Served(metadata={"model": "pi05"}) as served:
        answers, metadata = run(ask(served.port))
        assert served.server.counters["connections_accepted"] == 1
    assert [answer["echo"]["number"] for answer in answers] == list(range(20))
    assert {answer["session"] for answer in answers} == {"arm"}
    assert metadata == {"model": "pi05"}


def test_a_cancelled_task_cancels_the_request_and_nothing_else():
    held = []

    def handle(request):
        if "hold" in request.observation:
            held.append(request)
        else:
            echo(request)

    async def ask(port):
        async with AsyncFlashTransportPolicy("127.0.0.1", port) as policy:
            task = asyncio.create_task(policy.infer({"hold": True}))
            await asyncio.to_thread(eventually, lambda: held)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(eventually, lambda: held[0].cancelled)
            return await policy.infer({"x": 1}, timeout=LONG)

    with Served(handle) as served:
        assert run(ask(served.port))["echo"] == {"x": 1}


def test_a_timeout_cancels_a_small_request_at_the_server():
    held = []
    with Served(held.append) as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        with pytest.raises(Timeout, match=rf"no answer from 127.0.0.1:{served.port} within 0.3 s"):
            policy.infer({}, timeout=0.3)
        eventually(lambda: held and held[0].cancelled)


def test_a_request_that_is_cancelled_before_it_is_sent_whole_never_comes_to_the_policy():
    async def ask(port):
        async with AsyncFlashTransportPolicy("127.0.0.1", port) as policy:
            with pytest.raises(Timeout):
                await policy.infer({"image": np.zeros(20_000_000, np.uint8)}, timeout=0.05)
            return await policy.infer({"x": 1}, timeout=LONG)

    with Served() as served:
        assert run(ask(served.port))["echo"] == {"x": 1}
        assert served.server.counters["requests_accepted"] == 1


def test_the_event_loop_runs_while_a_server_is_waited_for():
    async def ask():
        policy = AsyncFlashTransportPolicy("127.0.0.1", free_udp_port(), connect_timeout=0.3)
        beats = 0
        waiting = asyncio.create_task(policy.connect())
        while not waiting.done():
            beats += 1
            await asyncio.sleep(0.01)
        with pytest.raises(Disconnected, match=r"within 0\.3 s: nothing listens there"):
            await waiting
        await policy.close()
        return beats

    assert run(ask()) > 5


def test_closing_ends_what_other_tasks_wait_for():
    held = []

    async def ask(port):
        policy = AsyncFlashTransportPolicy("127.0.0.1", port)
        waiting = asyncio.create_task(policy.infer({}))
        await asyncio.to_thread(eventually, lambda: held)
        await policy.close()
        for request in (waiting, policy.infer({})):
            with pytest.raises(Disconnected, match="is closed"):
                await request

    with Served(held.append) as served:
        run(ask(served.port))


def test_an_answer_beyond_the_limit_is_refused_and_costs_nothing_else(monkeypatch):
    monkeypatch.setattr("flash_transport.aio.policy.ANSWER_BYTES", 1000)
    with Served() as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        with pytest.raises(CodecError, match="is larger than 1000 bytes"):
            policy.infer({"x": bytes(5000)}, timeout=LONG)
        assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}


def test_no_datagrams_are_invited():
    async def ask(port):
        async with AsyncFlashTransportPolicy("127.0.0.1", port) as policy:
            return policy._link._quic.configuration.max_datagram_frame_size

    with Served() as served:
        assert run(ask(served.port)) is None


def test_a_missing_aioquic_is_named_with_what_to_install():
    program = "import sys; sys.modules['aioquic'] = None; import flash_transport.aio"
    result = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert "ImportError: QUIC in pure Python needs aioquic 1.2 or newer: pip" in result.stderr
