"""A real model takes the place of another behind a real server, and its memory is given back."""

import gc
import json
import shutil
import threading

import jax
import numpy as np
import pytest
from served_slot import wait_until
from typer.testing import CliRunner

from flash_transport import FlashTransportPolicy, ServerError
from openpi_flash_server.cli import app
from openpi_flash_server.config.file import parse_config
from openpi_flash_server.serving.service import Service

INFERENCE = 60.0
"""s for an answer of a real model on a busy machine."""

FREE = {"websocket_port": 0, "quic_port": 0}
OBSERVATION = {
    "observation/scene_image": np.zeros((224, 224, 3), np.uint8),
    "observation/wrist_image": np.zeros((224, 224, 3), np.uint8),
    "observation/state": np.array([0.0, -0.6, 1.0, 0.9, 0.0, 0.0, 0.0], np.float32),
    "prompt": "stack the cubes",
    "seed": 3,
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two demo checkpoints whose statistics, and so whose actions, differ."""
    directory = tmp_path_factory.mktemp("demo")
    result = CliRunner().invoke(app, ["make-demo-checkpoint", str(directory)])
    assert result.exit_code == 0, result.output
    other = directory / "other"
    shutil.copytree(directory / "action", other)
    (statistics,) = other.glob("assets/*/norm_stats.json")
    values = json.loads(statistics.read_text())
    actions = values["norm_stats"]["actions"]
    for key in ("q01", "q99", "mean"):
        if actions.get(key) is not None:
            actions[key] = [value + 0.5 for value in actions[key]]
    statistics.write_text(json.dumps(values))
    return directory / "action", other


@pytest.fixture
def others():
    """What models of other tests hold."""
    return model_bytes()


@pytest.fixture
def serve(others, checkpoints, tmp_path):
    """`serve(**groups)` is a service of the first checkpoint until the test ends."""
    services = []

    def start(**groups):
        config = {
            "host": "127.0.0.1",
            "state_dir": str(tmp_path),
            "admin": {"enabled": False},
            "action": {"model_config_name": "pi05_sim_arm", "checkpoint_dir": str(checkpoints[0])},
            "action_transport": FREE,
            "planner_transport": FREE,
            **groups,
        }
        services.append(Service(parse_config(json.dumps(config), {}, source="test")))
        services[-1].load()
        return services[-1]

    yield start
    for service in services:
        service.close(grace=INFERENCE)


def model_bytes():
    gc.collect()
    return sum(array.nbytes for array in jax.live_arrays())


def test_models_are_replaced_under_four_clients_and_unloaded(others, serve, checkpoints):
    service = serve()
    port = service.endpoints["action"].quic.port
    one_model = model_bytes() - others
    stop, failures, chunks = threading.Event(), [], [{} for _ in range(4)]

    def run(number):
        try:
            with FlashTransportPolicy("127.0.0.1", port) as client:
                while not stop.is_set():
                    answer = client.infer(OBSERVATION, timeout=INFERENCE)
                    chunks[number][answer["artifact"]] = answer["actions"]
        except BaseException as error:
            failures.append(error)

    robots = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for robot in robots:
        robot.start()
    wait_until(lambda: failures or all(chunks))
    try:
        metadata = service.swaps["action"].reload(str(checkpoints[1]))
        digest = metadata["checkpoint"]["digest"]
        wait_until(lambda: failures or all(digest in seen for seen in chunks))
    finally:
        stop.set()
        for robot in robots:
            robot.join(INFERENCE)
    assert failures == []
    for seen in chunks:
        assert len(seen) == 2
        # each digest answered with the actions of its own statistics
        former = next(actions for artifact, actions in seen.items() if artifact != digest)
        assert np.abs(seen[digest] - former).max() > 0.1
        np.testing.assert_array_equal(seen[digest], chunks[0][digest])
    wait_until(lambda: model_bytes() - others <= 1.01 * one_model)

    service.swaps["action"].unload()
    wait_until(lambda: model_bytes() - others <= 0.01 * one_model)
    with FlashTransportPolicy("127.0.0.1", port) as client, pytest.raises(ServerError) as error:
        client.infer(OBSERVATION, timeout=0.5)
    assert error.value.code == "not_ready"


def test_a_planner_is_replaced_beside_a_robot_that_acts_and_unloaded(others, serve, checkpoints):
    planner = {"checkpoint_dir": str(checkpoints[0].parent / "planner"), "schedule": "background"}
    service = serve(planner=planner)
    both = model_bytes() - others
    stop, failures, subtasks = threading.Event(), [], []

    def run():
        try:
            with FlashTransportPolicy("127.0.0.1", service.endpoints["action"].quic.port) as client:
                while not stop.is_set():
                    subtasks.append(client.infer(OBSERVATION, timeout=INFERENCE)["subtask"])
        except BaseException as error:
            failures.append(error)

    robot = threading.Thread(target=run)
    robot.start()
    wait_until(lambda: failures or subtasks)
    swap = service.swaps["planner"]
    try:
        swap.reload()
        count = len(subtasks)
        wait_until(lambda: failures or len(subtasks) > count)
        # the same weights plan the same
        assert not any("error" in subtask for subtask in subtasks)
        assert len({subtask["text"] for subtask in subtasks}) == 1
        wait_until(lambda: model_bytes() - others <= 1.01 * both)
        swap.unload()
        # the action model is left
        wait_until(lambda: model_bytes() - others <= 0.75 * both)
        count = len(subtasks)
        wait_until(lambda: failures or len(subtasks) > count)
    finally:
        stop.set()
        robot.join(INFERENCE)
    assert failures == []
