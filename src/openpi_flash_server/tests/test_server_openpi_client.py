"""openpi's own client: metadata, actions, errors, its key, and its wait for a server."""

import dataclasses
import threading

import numpy as np
import pytest
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from served_slot import get, wait_until
from server_fakes import WAIT, FakePolicy
from websockets.exceptions import ConnectionClosedError

from openpi_flash_models.actions.malformed import Substitute

# openpi's client connects in the way of older websockets
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")


def test_openpis_client_gets_metadata_and_actions(serve_websocket, openpi_client):
    client = openpi_client(serve_websocket().port)
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
    assert set(first["server_timing"]) == {"infer_ms", "queue_ms", "decode_ms", "batch_size"}
    assert set(second["server_timing"]) == {*first["server_timing"], "prev_total_ms"}
    assert (first["sequence"], second["sequence"]) == (1, 2)


def test_openpis_client_goes_on_where_a_chunk_is_not_the_models(serve_websocket, openpi_client):
    class Malformed(FakePolicy):
        def infer(self, observation, controls=None):
            result = super().infer(observation, controls)
            substitute = Substitute("hold", "the tokens end in the middle of a number")
            return dataclasses.replace(result, substitute=substitute)

    client = openpi_client(serve_websocket(Malformed()).port)
    for _ in range(2):
        answer = client.infer({"state": np.array([1.5, 2.0]), "prompt": "fold"})
        assert answer["actions"].tolist() == [[1.5, 2.0]] * 3
        assert answer["substitute"] == {
            "kind": "hold",
            "reason": "the tokens end in the middle of a number",
        }


def test_arrays_of_every_kind_of_openpis_client_reach_the_policy_as_sent(
    serve_websocket, openpi_client
):
    server = serve_websocket()
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


def test_prev_total_does_not_count_the_time_in_which_the_client_thinks(
    serve_websocket, openpi_client
):
    server = serve_websocket()
    ticks = iter(range(0, 10_000))
    server.slot.clock = lambda: float(next(ticks))
    client = openpi_client(server.port)
    client.infer({"state": np.zeros(2)})
    wait_until(lambda: server.transport._pump._prev_total_ms)
    for _ in range(1000):
        server.slot.clock()
    reply = client.infer({"state": np.zeros(2)})
    assert reply["server_timing"]["prev_total_ms"] < 20_000


def test_openpis_client_gets_openpis_error_a_traceback_and_close_1011(
    serve_websocket, openpi_client
):
    client = openpi_client(serve_websocket().port)
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


def test_without_expose_tracebacks_openpis_client_gets_the_message_alone(
    serve_websocket, openpi_client
):
    client = openpi_client(serve_websocket(expose_tracebacks=False).port)
    with pytest.raises(RuntimeError) as caught:
        client.infer({"explode": "now", "state": np.zeros(2)})
    assert str(caught.value) == (
        "Error in inference server:\ninternal: RuntimeError: the model exploded: now"
    )


def test_an_error_of_one_client_leaves_the_others_alone(serve_websocket, openpi_client):
    server = serve_websocket()
    good, bad = openpi_client(server.port), openpi_client(server.port)
    with pytest.raises(RuntimeError):
        bad.infer({})
    assert good.infer({"state": np.ones(2)})["actions"].shape == (3, 2)


def test_openpis_client_waits_for_a_server_that_warms_up(serve_websocket, in_background):
    server = serve_websocket(opened=False)
    client = in_background(WebsocketClientPolicy, "127.0.0.1", server.port)
    while not server.transport.waiting_clients:
        threading.Event().wait(0.001)
    assert not client.done()
    server.open()
    policy = client.result(WAIT)
    assert policy.infer({"state": np.zeros(2)})["actions"].shape == (3, 2)
    policy._ws.close()


def test_a_key_of_the_configuration_lets_openpis_client_in(serve_websocket, openpi_client):
    client = openpi_client(serve_websocket(api_keys=["other", "s3cret"]).port, api_key="s3cret")
    assert client.infer({"state": np.zeros(2)})["actions"].shape == (3, 2)


def test_an_unknown_page_is_told_to_upgrade_as_openpis_server_does(serve_websocket):
    status, _ = get(serve_websocket(), "/")
    assert status == 426
