"""Threads that share a WebSocket client, and its end."""

# ruff: noqa: SIM117 - a server, its client and what is expected of them, inside each other

import gc
import threading

import pytest
import websockets.sync.server
from openpi_server import SHORT, SOON, in_thread, serving
from websockets.exceptions import ConnectionClosed

from flash_transport import Disconnected, Timeout, WebsocketPolicy, packb


def test_threads_share_a_client_and_each_gets_its_own_answers(server):
    wrong = []

    def work(thread):
        for number in range(25):
            asked = {"thread": thread, "number": number}
            if policy.infer(asked, timeout=SOON) != asked:
                wrong.append(asked)

    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len(server.connections) == 1


def test_a_request_whose_turn_does_not_come_in_time_leaves_the_others_alone():
    asked, hold = threading.Event(), threading.Event()

    def answer(observation, number):
        asked.set()
        hold.wait(SOON)
        return observation

    with serving(answer) as server, WebsocketPolicy("127.0.0.1", server.port) as policy:
        with in_thread(lambda: policy.infer({"n": 1})) as first:
            asked.wait(SOON)
            with pytest.raises(Timeout, match="within 0.15 s"):
                policy.infer({"n": 2}, timeout=SHORT)
            hold.set()
            assert first.result() == {"n": 1}


def test_closing_ends_a_request_that_another_thread_waits_for():
    asked, hold = threading.Event(), threading.Event()

    def answer(observation, number):
        asked.set()
        hold.wait(SOON)
        return observation

    with serving(answer) as server:
        policy = WebsocketPolicy("127.0.0.1", server.port)
        with in_thread(lambda: policy.infer({"n": 1})) as waiting:
            asked.wait(SOON)
            policy.close()
            with pytest.raises(Disconnected, match="is closed"):
                waiting.result()
        hold.set()


def test_closing_ends_the_search_for_a_server(server):
    policy = WebsocketPolicy("127.0.0.1", server.port, connect_timeout=1000)
    server.connections[0].close()
    server.close()
    with in_thread(lambda: policy.infer({})) as searching:
        policy.close()
        with pytest.raises(Disconnected, match="is closed"):
            searching.result()


def test_a_closed_client_says_so_and_may_be_closed_again(server):
    with WebsocketPolicy("127.0.0.1", server.port) as policy:
        pass
    policy.close()
    with pytest.raises(Disconnected, match=rf"this client of ws://.*:{server.port} is closed"):
        policy.infer({})


def test_closing_says_goodbye():
    ended = threading.Event()
    codes = []

    def talk(connection):
        connection.send(packb({}))
        with pytest.raises(ConnectionClosed) as caught:
            connection.recv()
        codes.append(caught.value.rcvd.code)
        ended.set()

    with websockets.sync.server.serve(talk, "127.0.0.1", 0) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        WebsocketPolicy("127.0.0.1", listener.socket.getsockname()[1]).close()
        assert ended.wait(SOON)
        listener.shutdown()
        thread.join()
    assert codes == [1000]


def test_a_policy_that_is_dropped_lets_its_threads_go(server):
    policy = WebsocketPolicy("127.0.0.1", server.port)
    policy.submit({"n": 1}).result(SOON)
    threads = policy._queue._threads
    policy._connection.close()
    del policy
    gc.collect()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()


def test_giving_up_a_request_that_waits_for_its_turn_leaves_the_others_connection_alone():
    asked, hold = threading.Event(), threading.Event()

    def answer(observation, number):
        asked.set()
        hold.wait(SOON)
        return {"number": number}

    with serving(answer) as server, WebsocketPolicy("127.0.0.1", server.port) as policy:
        with in_thread(lambda: policy.infer({"n": 1})) as first:
            asked.wait(SOON)
            future = policy.submit({"n": 2})
            assert future.cancel()
            hold.set()
            assert first.result() == {"number": 0}
        assert policy.infer({"n": 3}) == {"number": 0}
