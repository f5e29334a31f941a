"""Sessions of Positronic's published client over a real socket."""

import http.client
import json

import numpy as np
import pytest
from one_checkpoint import hold_sessions
from positronic_client import OBSERVATION, PositronicSession, address, serialization, wire
from positronic_wire.websocket import WebsocketClientWire
from server_fakes import WAIT, FakePolicy
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from openpi_flash_models.policy.policy_protocol import ActionResult

# Positronic's client connects in the way of older websockets
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")


class StatePolicy(FakePolicy):
    """Answers with the state in each of 50 steps."""

    def infer(self, observation, controls=None):
        self.seen.append(dict(observation))
        if observation.get("prompt") == "explode":
            raise RuntimeError("the model exploded")
        if observation.get("prompt") == "seven":
            return ActionResult(actions=np.zeros((50, 7)), infer_ms=1.0)
        return ActionResult(
            actions=np.tile(observation["observation/state"], (50, 1)), infer_ms=1.0
        )


@pytest.fixture
def serve(serve_websocket):
    def start(policy=None, *, codec="ee", **options):
        server = serve_websocket(policy or StatePolicy(), **options)
        hold_sessions(server, codec=codec)
        return server

    return start


def test_positronics_client_gets_its_actions(serve):
    server = serve()
    with PositronicSession(server.port) as session:
        ready = session.until_ready()
        # a warm model sends no frame before, as the client of the first release expects
        assert session.before == []
        assert set(ready) == {"status", "meta"}
        answer = session.infer()
    assert set(answer) == {"result"}
    assert len(answer["result"]) == 15
    first = answer["result"][0]
    assert first["robot_command"]["type"] == "cartesian_pos"
    np.testing.assert_allclose(
        first["robot_command"]["pose"], [0.1, 0.2, 0.3, 1, 0, 0, 0, 1, 0, 0, 0, 1], rtol=1e-6
    )
    assert (first["target_grip"], first["timestamp"]) == (0.25, 0.0)
    (seen,) = server.policy.seen
    assert seen["prompt"] == "stack the cubes"
    assert seen["observation/image"].shape == (224, 224, 3)


def test_the_meta_holds_what_clients_of_every_release_need(serve):
    server = serve()
    with PositronicSession(server.port, "10000") as session:
        meta = session.until_ready()["meta"]
    assert meta == {
        "type": "openpi",
        "host": "0.0.0.0",
        "port": server.port,
        "config_name": "pi05_droid",
        "checkpoint_path": "/runs/exp_v1",
        "experiment_name": "exp_v1",
        "checkpoint_id": "10000",
        "image_sizes": [224, 224],
        "action_fps": 15.0,
        "action_horizon_sec": 1.0,
        "compress_images": False,
        "local_stack": {
            "seq": [
                {"name": "chunked_schedule"},
                {"name": "restrict_image_size", "args": {"width": 224, "height": 224}},
            ]
        },
    }


def test_an_error_leaves_the_session_usable(serve):
    with PositronicSession(serve().port) as session:
        session.until_ready()
        without_state = {key: OBSERVATION[key] for key in OBSERVATION if key != "grip"}
        for observation, message in [
            (
                without_state,
                "grip: missing; the observation has __wall_time_ns__, image.agent_view",
            ),
            ({**OBSERVATION, "task": "explode"}, "RuntimeError: the model exploded"),
            ({**OBSERVATION, "task": "seven"}, "the codec needs actions [steps, 8 or more]"),
            ([1], "observation: expected a map, got list"),
        ]:
            answer = session.infer(observation)
            assert set(answer) == {"error"}
            assert answer["error"].startswith(message)
        session.connection.send(b"\xc1 is no msgpack")
        assert set(session.receive()) == {"error"}
        assert len(session.infer()["result"]) == 15


def test_a_session_is_told_every_few_seconds_why_it_waits(serve):
    server = serve(opened=False)
    with PositronicSession(server.port) as session:
        assert session.receive() == {"status": "loading", "message": "starting"}
        assert session.receive()["status"] == "loading"
        server.open()
        assert session.until_ready()["status"] == "ready"
        assert len(session.infer()["result"]) == 15


def test_a_session_of_another_checkpoint_waits_for_it(serve):
    server = serve()
    with PositronicSession(server.port, "20000") as session:
        assert session.receive() == {
            "status": "waiting",
            "message": "Waiting for 1 active session(s) to finish...",
        }
        ready = server.checkpoints.asked.wait()
        ready(server.checkpoints.lease("20000"))
        assert session.until_ready()["meta"]["checkpoint_id"] == "20000"
    assert server.checkpoints.released.wait(WAIT)


def test_a_client_that_leaves_while_it_waits_takes_no_checkpoint(serve):
    server = serve()
    with PositronicSession(server.port, "20000") as session:
        session.receive()
        ready = server.checkpoints.asked.wait()
    assert server.checkpoints.cancelled.wait(WAIT)
    ready(server.checkpoints.lease("20000"))
    assert server.checkpoints.released.wait(WAIT)


@pytest.mark.parametrize(
    ("checkpoint", "query", "reason"),
    [
        ("999", "", "Checkpoint not found or invalid ID: 999"),
        (None, "codec.fps=10", "this server takes no session parameters, leave them out"),
    ],
)
def test_a_session_that_cannot_begin_is_told_why_and_closed_with_1008(
    serve, checkpoint, query, reason
):
    path = wire.SESSION_PATH + (f"/{checkpoint}" if checkpoint else "")
    with connect(f"ws://127.0.0.1:{serve().port}{path}?{query}") as client:
        frame = serialization.deserialise(client.recv(WAIT))
        assert frame == {"status": "error", "error": reason}
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(WAIT)
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, reason)


def test_a_text_frame_ends_the_session_with_an_error(serve):
    with connect(f"ws://127.0.0.1:{serve().port}{wire.SESSION_PATH}") as client:
        client.recv(WAIT)
        client.send("hello")
        assert serialization.deserialise(client.recv(WAIT))["status"] == "error"
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(WAIT)
    assert closed.value.rcvd.code == 1008


def test_compression_is_declined_even_if_the_client_offers_it(serve):
    with connect(f"ws://127.0.0.1:{serve().port}{wire.SESSION_PATH}") as client:
        assert "Sec-WebSocket-Extensions" not in client.response.headers


def request(server, method, path):
    """Status, type and JSON of a page."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], json.loads(response.read())
    finally:
        connection.close()


def test_the_pages_of_the_api(serve):
    server = serve()
    assert request(server, "GET", "/api/v1/models") == (
        200,
        "application/json",
        {"models": ["10000", "20000"]},
    )
    assert request(server, "POST", "/api/v1/models")[0] == 405
    for path in ("/api/v1/session", "/api/v1/none"):
        assert request(server, "GET", path) == (404, "application/json", {"detail": "Not Found"})


def test_positronics_probe_and_keepalive_find_a_server(serve):
    port = serve().port
    client = WebsocketClientWire()
    assert client.probe(address(port), None, WAIT) is None
    assert client.keepalive(address(port), None, WAIT) is None


@pytest.mark.parametrize("path", ["/api/v1/session/a/b", "/api/v1/models", "/api/v1/"])
def test_an_upgrade_of_another_path_of_the_api_is_forbidden(serve, path):
    with pytest.raises(wire.ConnectRefused) as refused:
        WebsocketClientWire().dial(
            wire.HostPortAddress("127.0.0.1", serve().port, path, ""), None, WAIT
        )
    assert refused.value.refusal is wire.Refusal.FORBIDDEN


def test_a_server_without_a_codec_says_what_to_set(serve_websocket):
    server = serve_websocket()
    assert "positronic.codec is not set" in request(server, "GET", "/api/v1/models")[2]["detail"]
    with pytest.raises(wire.ConnectRefused):
        PositronicSession(server.port)


def test_a_session_needs_the_key_of_the_server(serve):
    server = serve(api_keys=["s3cret"])
    with pytest.raises(wire.ConnectRefused):
        PositronicSession(server.port)
    with PositronicSession(server.port, headers={"Authorization": "Bearer s3cret"}) as session:
        assert session.until_ready()["status"] == "ready"


def test_sessions_at_once_get_their_own_answers(serve):
    server = serve()
    with PositronicSession(server.port) as one, PositronicSession(server.port) as other:
        for session in (one, other):
            session.until_ready()
        for session, grip in ((one, 0.1), (other, 0.9)):
            session.send({**OBSERVATION, "grip": grip})
        for session, grip in ((other, 0.9), (one, 0.1)):
            assert session.receive()["result"][0]["target_grip"] == pytest.approx(grip)


@pytest.mark.parametrize("path", ["/openpi/policy", "/v1/realtime/robot/openpi"])
def test_openpis_client_is_answered_at_the_paths_of_other_servers(
    serve_websocket, openpi_client_at, path
):
    client = openpi_client_at(f"ws://127.0.0.1:{serve_websocket().port}{path}")
    assert client.get_server_metadata()["robot"] == "two_joints"
    assert client.infer({"state": np.ones(2)})["actions"].shape == (3, 2)


@pytest.fixture
def openpi_client_at():
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    clients = []

    def connect_(uri):
        clients.append(WebsocketClientPolicy(uri, None))
        return clients[-1]

    yield connect_
    for client in clients:
        client._ws.close()
