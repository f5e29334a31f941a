"""Who is served while who waits over WebSocket."""

import asyncio
import contextlib
import threading

import numpy as np
import openpi_client.msgpack_numpy as openpi_codec
import pytest
from served_slot import connect, get, wait_until
from server_fakes import WAIT, FakePolicy

from flash_transport import Superseded, WebsocketPolicy

# openpi's client connects in the way of older websockets
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")


def test_clients_and_health_are_served_while_an_inference_runs(
    serve_websocket, openpi_client, in_background
):
    server = serve_websocket(FakePolicy(gate=threading.Event()))
    first = openpi_client(server.port)
    first_answer = in_background(first.infer, {"state": np.full(2, 1.0)})
    assert server.policy.entered.acquire(timeout=WAIT)
    assert get(server) == (200, "OK\n")
    second = openpi_client(server.port)
    assert second.get_server_metadata()["robot"] == "two_joints"
    second_answer = in_background(second.infer, {"state": np.full(2, 2.0)})
    assert not first_answer.done()
    server.policy.gate.set()
    assert first_answer.result(WAIT)["actions"][0, 0] == 1.0
    assert second_answer.result(WAIT)["actions"][0, 0] == 2.0


def test_two_connections_of_one_session_supersede_each_other(serve_websocket, in_background):
    server = serve_websocket(FakePolicy(gate=threading.Event()))
    with contextlib.ExitStack() as stack:
        running, older, newer = (
            stack.enter_context(WebsocketPolicy("127.0.0.1", server.port)) for _ in range(3)
        )
        observation = {"state": np.zeros(2), "session": "arm-7"}
        answers = [in_background(running.infer, observation)]
        assert server.policy.entered.acquire(timeout=WAIT)
        superseded = in_background(older.infer, observation)
        server.wait_until_waiting(1)
        answers.append(in_background(newer.infer, observation))
        with pytest.raises(Superseded, match="a newer observation of this session"):
            superseded.result(WAIT)
        server.policy.gate.set()
        for answer in answers:
            assert answer.result(WAIT)["actions"].shape == (3, 2)


def test_a_client_that_leaves_does_not_get_its_waiting_request_run(
    serve_websocket, openpi_client, in_background
):
    server = serve_websocket(FakePolicy(gate=threading.Event()))
    first = openpi_client(server.port)
    answer = in_background(first.infer, {"state": np.zeros(2)})
    assert server.policy.entered.acquire(timeout=WAIT)
    with connect(server) as leaver:
        leaver.recv()
        leaver.send(openpi_codec.packb({"state": np.full(2, 9.0)}))
        # the pong comes after the server has read the request
        leaver.ping().wait(WAIT)
    server.policy.gate.set()
    answer.result(WAIT)
    first.infer({"state": np.zeros(2)})
    assert [seen["state"][0] for seen in server.policy.seen] == [0.0, 0.0]


def test_many_clients_at_once_each_get_their_own_answer(serve_websocket):
    server = serve_websocket()

    async def one(number):
        import websockets.asyncio.client

        async with websockets.asyncio.client.connect(
            f"ws://127.0.0.1:{server.port}", compression=None
        ) as client:
            await client.recv()
            for step in range(5):
                await client.send(openpi_codec.packb({"state": np.array([number, step])}))
                reply = openpi_codec.unpackb(await client.recv())
                assert reply["actions"][0].tolist() == [number, step]

    async def everybody():
        await asyncio.gather(*(one(number) for number in range(12)))

    asyncio.run(asyncio.wait_for(everybody(), WAIT))
    assert server.policy.most_running == 1


def test_the_round_trip_of_a_connection_is_known_from_its_first_ping_to_its_end(serve_websocket):
    quiet, server = serve_websocket(), serve_websocket(ping_interval=0.01)
    with connect(quiet) as client:
        client.recv()
        assert quiet.transport.links == {}
    with connect(server) as client:
        client.recv()
        wait_until(lambda: server.transport.links)
        ((name, _, _),) = server.connections
        assert server.transport.links[name]["rtt_ms"] > 0
    wait_until(lambda: not server.connections)
    assert server.transport.links == {}
