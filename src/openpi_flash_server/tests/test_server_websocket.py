"""openpi's WebSocket protocol, spoken by openpi's own client and by bare websockets."""

import asyncio
import contextlib
import http.client
import socket
import threading
import time

import numpy as np
import openpi_client.msgpack_numpy as openpi_codec
import pytest
import websockets.sync.client
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from server_fakes import SPEC, WAIT, FakePolicy
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from flash_transport import AuthenticationFailed, ServerError, Superseded, WebsocketPolicy
from openpi_flash_server.action import ActionHandler
from openpi_flash_server.metadata import action_metadata
from openpi_flash_server.slot import Slot
from openpi_flash_server.websocket_transport import (
    MAX_MESSAGE_BYTES,
    SUBPROTOCOL,
    WebsocketTransport,
)

# openpi's client connects in the way of older websockets
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")

METADATA = action_metadata(SPEC, has_planner=False)


class Server:
    """A slot behind a WebSocket port of this machine."""

    def __init__(self, policy, *, opened=True, **options):
        self.policy = policy
        self.slot = Slot("action")
        self.transport = WebsocketTransport(self.slot, host="127.0.0.1", port=0, **options)
        self.port = self.transport.port
        if opened:
            self.open()

    def open(self):
        self.slot.open(ActionHandler(self.policy))
        self.transport.publish(METADATA)

    @property
    def connection_count(self):
        """How many connections there have been."""
        return next(self.transport._connection_numbers) - 1

    def wait_until_waiting(self, count):
        """Returns when so many requests wait for their turn."""
        deadline = time.monotonic() + WAIT
        while len(self.slot._scheduler) < count:
            assert time.monotonic() < deadline
            threading.Event().wait(0.001)

    def close(self):
        if self.policy.gate is not None:
            self.policy.gate.set()
        assert self.slot.close(grace=WAIT)
        self.transport.close(grace=WAIT)


@pytest.fixture
def serve():
    servers = []

    def start(policy=None, **options):
        servers.append(Server(policy or FakePolicy(), **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def openpi_client():
    """Makes clients of openpi and closes what it leaves open."""
    clients = []

    def connect(port, **options):
        clients.append(WebsocketClientPolicy("127.0.0.1", port, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client._ws.close()


def connect(server, **options):
    return websockets.sync.client.connect(
        f"ws://127.0.0.1:{server.port}", compression=None, max_size=None, **options
    )


def get(server, path="/healthz"):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def in_background(function, *arguments):
    """Runs a blocking call beside the test; `.result` waits for it."""
    import concurrent.futures

    pool = concurrent.futures.ThreadPoolExecutor(1)
    future = pool.submit(function, *arguments)
    pool.shutdown(wait=False)
    return future


# openpi's own client


def test_openpis_client_gets_metadata_and_actions(serve, openpi_client):
    client = openpi_client(serve().port)
    metadata = client.get_server_metadata()
    assert metadata["reset_pose"] == [0.5, -0.5]
    assert metadata["action_horizon"] == 3
    assert metadata["image_specs"] == [
        {"path": ["observation/image"], "target_shape": [4, 4, 3], "dtype": "uint8"}
    ]
    first = client.infer({"state": np.array([1.5, 2.0]), "prompt": "fold"})
    second = client.infer({"state": np.array([3.0, 4.0]), "prompt": "fold"})
    assert first["actions"].dtype == np.float64
    assert first["actions"].tolist() == [[1.5, 2.0]] * 3
    assert second["actions"].tolist() == [[3.0, 4.0]] * 3
    assert first["policy_timing"] == {"infer_ms": 1.25}
    assert set(first["server_timing"]) == {"infer_ms", "queue_ms", "decode_ms"}
    assert set(second["server_timing"]) == {"infer_ms", "queue_ms", "decode_ms", "prev_total_ms"}
    assert (first["sequence"], second["sequence"]) == (1, 2)


def test_arrays_of_every_kind_of_openpis_client_reach_the_policy_as_sent(serve, openpi_client):
    server = serve()
    sent = {
        "state": np.array([1.0, 2.0]),
        "images": {"cam": np.arange(48, dtype=np.uint8).reshape(3, 4, 4)[:, ::-1]},
        "scalar": np.float32(1.5),
        "prompt": np.array("fold the towel"),
        "flags": np.array([True, False]),
        "list": [1, "two", None],
    }
    openpi_client(server.port).infer(sent)
    seen = server.policy.seen[0]
    np.testing.assert_array_equal(seen["images"]["cam"], sent["images"]["cam"])
    assert seen["images"]["cam"].dtype == np.uint8
    assert seen["scalar"] == np.float32(1.5)
    assert seen["prompt"].item() == "fold the towel"
    assert seen["flags"].dtype == bool
    assert seen["list"] == [1, "two", None]


def test_prev_total_does_not_count_the_time_in_which_the_client_thinks(serve, openpi_client):
    server = serve()
    ticks = iter(range(0, 10_000))
    server.slot.clock = lambda: float(next(ticks))
    client = openpi_client(server.port)
    client.infer({"state": np.zeros(2)})
    while server.transport._answering:
        threading.Event().wait(0.001)
    for _ in range(1000):
        server.slot.clock()
    reply = client.infer({"state": np.zeros(2)})
    assert reply["server_timing"]["prev_total_ms"] < 20_000


def test_openpis_client_gets_openpis_error_a_traceback_and_close_1011(serve, openpi_client):
    client = openpi_client(serve().port)
    with pytest.raises(RuntimeError, match="Error in inference server:") as caught:
        client.infer({"prompt": "no state"})
    assert "Traceback (most recent call last):" in str(caught.value)
    assert "state: missing, expected float32 [2]" in str(caught.value)
    with pytest.raises(ConnectionClosedError) as closed:
        client.infer({"state": np.zeros(2)})
    assert closed.value.rcvd.code == 1011
    assert closed.value.rcvd.reason == (
        "Internal server error. Traceback included in previous frame."
    )


def test_without_expose_tracebacks_openpis_client_gets_the_message_alone(serve, openpi_client):
    client = openpi_client(serve(expose_tracebacks=False).port)
    with pytest.raises(RuntimeError) as caught:
        client.infer({"explode": "now", "state": np.zeros(2)})
    assert str(caught.value) == (
        "Error in inference server:\ninternal: RuntimeError: the model exploded: now"
    )


def test_an_error_of_one_client_leaves_the_others_alone(serve, openpi_client):
    server = serve()
    good, bad = openpi_client(server.port), openpi_client(server.port)
    with pytest.raises(RuntimeError):
        bad.infer({})
    assert good.infer({"state": np.ones(2)})["actions"].shape == (3, 2)


def test_clients_and_health_are_served_while_an_inference_runs(serve, openpi_client):
    server = serve(FakePolicy(gate=threading.Event()))
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


# errors for clients that can take them


def test_our_client_keeps_its_connection_after_a_bad_request(serve):
    with connect(serve(), subprotocols=[SUBPROTOCOL]) as client:
        assert client.subprotocol == SUBPROTOCOL
        client.recv()
        for data, message in [
            (openpi_codec.packb({}), "state: missing, expected float32 [2]"),
            (openpi_codec.packb([1]), "observation: expected a map, got list"),
            ("text", "observation: expected a binary frame, got a text frame"),
        ]:
            client.send(data)
            error = openpi_codec.unpackb(client.recv())
            assert error == {"error": {"code": "bad_request", "message": message}}
        client.send(openpi_codec.packb({"state": np.zeros(2)}))
        assert openpi_codec.unpackb(client.recv())["actions"].shape == (3, 2)


def test_our_own_client_gets_typed_errors_and_goes_on_with_the_same_connection(serve):
    server = serve(api_keys=["s3cret"])
    with WebsocketPolicy("127.0.0.1", server.port, api_key="s3cret") as policy:
        assert policy.get_server_metadata()["robot"] == "two_joints"
        with pytest.raises(ServerError) as refused:
            policy.infer({"state": np.zeros(9)}, timeout=WAIT)
        result = policy.infer({"state": np.zeros(2), "observation_stamp": 5}, timeout=WAIT)
    assert (refused.value.code, refused.value.message) == (
        "bad_request",
        "state: expected shape [2], got [9]",
    )
    assert result["observation_stamp"] == 5
    assert server.connection_count == 1
    with pytest.raises(AuthenticationFailed, match="send the header Authorization"):
        WebsocketPolicy("127.0.0.1", server.port, api_key="wrong")


def test_two_connections_of_one_session_supersede_each_other(serve):
    server = serve(FakePolicy(gate=threading.Event()))
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


def test_no_traceback_goes_to_our_client(serve):
    with connect(serve(), subprotocols=[SUBPROTOCOL]) as client:
        client.recv()
        client.send(openpi_codec.packb({"explode": "x", "state": np.zeros(2)}))
        error = openpi_codec.unpackb(client.recv())["error"]
    assert error == {"code": "internal", "message": "RuntimeError: the model exploded: x"}


GARBAGE = [
    b"",
    b"\xc1",
    b"\x00" * 100,
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x91" * 100_000,
    b"\x81\xa5state\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x04abcd\xc4\x05dtype\xa3<f8\xc4\x05shape\x91\x09",
    openpi_codec.packb({"state": np.zeros(2)})[:-3],
    openpi_codec.packb({"state": np.zeros(2)}) + b"\x00",
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_a_bad_request_and_the_connection_survives(serve, data):
    with connect(serve(), subprotocols=[SUBPROTOCOL]) as client:
        client.recv()
        client.send(data)
        assert openpi_codec.unpackb(client.recv())["error"]["code"] == "bad_request"
        client.send(openpi_codec.packb({"state": np.zeros(2)}))
        assert openpi_codec.unpackb(client.recv())["actions"].shape == (3, 2)


def test_a_message_over_the_limit_closes_its_connection_with_1009(serve):
    server = serve()
    with connect(server) as client:
        client.recv()
        client.send(bytes(MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosedError) as closed:
            client.recv()
    assert closed.value.rcvd.code == 1009
    assert get(server) == (200, "OK\n")


def test_bytes_that_are_no_http_hurt_nobody(serve):
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as garbage:
        garbage.sendall(b"\x16\x03\x01\x02\x00\r\n" * 200)
        garbage.recv(4096)
    assert get(server) == (200, "OK\n")


def test_an_unknown_page_is_told_to_upgrade_as_openpis_server_does(serve):
    status, _ = get(serve(), "/")
    assert status == 426


def test_a_client_that_leaves_does_not_get_its_waiting_request_run(serve, openpi_client):
    server = serve(FakePolicy(gate=threading.Event()))
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


# readiness


def test_health_says_what_the_server_waits_for_until_it_is_ready(serve):
    server = serve(opened=False)
    assert get(server) == (503, "starting\n")
    server.slot.warming_up("warming up: loading the action model")
    assert get(server) == (503, "warming up: loading the action model\n")
    server.open()
    assert get(server) == (200, "OK\n")
    assert get(server, "/healthz?verbose") == (200, "OK\n")


def test_our_client_is_refused_with_the_reason_while_the_server_warms_up(serve):
    server = serve(opened=False)
    server.slot.warming_up("warming up: compiling")
    with pytest.raises(ServerError, match="not_ready: warming up: compiling"):
        WebsocketPolicy("127.0.0.1", server.port, connect_timeout=0.2)
    with pytest.raises(InvalidStatus) as refused:
        connect(server, subprotocols=[SUBPROTOCOL])
    assert refused.value.response.status_code == 503
    assert refused.value.response.body == b"not_ready: warming up: compiling\n"


def test_openpis_client_waits_for_a_server_that_warms_up(serve):
    server = serve(opened=False)
    client = in_background(WebsocketClientPolicy, "127.0.0.1", server.port)
    while not server.transport._waiting:
        threading.Event().wait(0.001)
    assert not client.done()
    server.open()
    policy = client.result(WAIT)
    assert policy.infer({"state": np.zeros(2)})["actions"].shape == (3, 2)
    policy._ws.close()


def test_a_client_that_waits_for_the_start_can_leave_and_the_server_can_stop(serve):
    server = serve(opened=False)
    with connect(server):
        while not server.transport._waiting:
            threading.Event().wait(0.001)
    while server.transport._waiting:
        threading.Event().wait(0.001)
    with connect(server) as stays:
        server.transport.close(grace=WAIT)
        with pytest.raises(Exception, match="1001"):
            stays.recv(WAIT)


def test_every_api_key_is_compared_in_constant_time_also_after_a_match(serve, monkeypatch):
    compared = []

    def compare(given, known):
        compared.append((len(given), len(known)))
        return given == known

    monkeypatch.setattr("openpi_flash_server.websocket_transport.hmac.compare_digest", compare)
    server = serve(api_keys=["first", "a much longer second", "third"])
    with WebsocketPolicy("127.0.0.1", server.port, api_key="first"):
        pass
    with pytest.raises(AuthenticationFailed):
        WebsocketPolicy("127.0.0.1", server.port, api_key="f")
    # neither how many match nor how long a key is makes a difference
    assert compared == [(32, 32)] * 6


def test_closing_lets_the_running_answer_out(openpi_client):
    server = Server(FakePolicy(gate=threading.Event()))
    client = openpi_client(server.port)
    answer = in_background(client.infer, {"state": np.ones(2)})
    assert server.policy.entered.acquire(timeout=WAIT)
    closing = in_background(server.close)
    assert answer.result(WAIT)["actions"].shape == (3, 2)
    closing.result(WAIT)
    with pytest.raises(OSError, match="refused"):
        connect(server)


def test_closing_does_not_wait_for_an_inference_that_does_not_end(openpi_client):
    server = Server(FakePolicy(gate=threading.Event()))
    client = openpi_client(server.port)
    answer = in_background(client.infer, {"state": np.ones(2)})
    assert server.policy.entered.acquire(timeout=WAIT)
    assert not server.slot.close(grace=0.01)
    server.transport.close(grace=0.01)
    with pytest.raises(ConnectionClosed):
        answer.result(WAIT)
    server.policy.gate.set()
    assert server.slot.close(grace=WAIT)


# keys


def test_a_key_of_the_configuration_lets_openpis_client_in(serve, openpi_client):
    client = openpi_client(serve(api_keys=["other", "s3cret"]).port, api_key="s3cret")
    assert client.infer({"state": np.zeros(2)})["actions"].shape == (3, 2)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Api-Key wrong"},
        {"Authorization": "Api-Key"},
        {"Authorization": "Bearer s3cret"},
        {"Authorization": "Api-Key s3cret2"},
    ],
)
def test_no_key_or_a_wrong_one_is_401(serve, headers):
    server = serve(api_keys=["s3cret"])
    with pytest.raises(InvalidStatus) as refused:
        connect(server, additional_headers=headers)
    assert refused.value.response.status_code == 401
    assert b"Authorization: Api-Key" in refused.value.response.body


def test_a_key_of_strange_bytes_is_401_too(serve):
    server = serve(api_keys=["s3cret"])
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as raw:
        raw.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Authorization: Api-Key \xff\xfe\r\n\r\n"
        )
        assert raw.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_health_needs_no_key(serve):
    assert get(serve(api_keys=["s3cret"])) == (200, "OK\n")


# the port


def test_a_port_in_use_is_an_error_of_the_constructor():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            WebsocketTransport(Slot("action"), host="127.0.0.1", port=port)


def test_many_clients_at_once_each_get_their_own_answer(serve):
    server = serve()

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
