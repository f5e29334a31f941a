"""The server's configuration reaches a policy in PyTorch."""

import numpy as np
import pytest
from server_process import Process
from typer.testing import CliRunner

from flash_transport import FlashTransportPolicy
from openpi_flash_server.cli import app

pytest.importorskip("torch", reason="needs the torch extra")

INFERENCE = 60.0
"""s for an answer of a real model on a busy machine."""
AWAY = 0.05
"""rad from what the model would say: a chunk that it did not make itself."""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    directory = tmp_path_factory.mktemp("demo")
    result = CliRunner().invoke(app, ["make-demo-checkpoint", str(directory)])
    assert result.exit_code == 0, result.output
    return {
        "action": {
            "model_config_name": "pi05_sim_arm",
            "checkpoint_dir": str(directory / "action"),
            "framework": "pytorch",
        },
        "action_transport": {"websocket_port": 0, "quic_port": 0},
        "host": "127.0.0.1",
    }


def observation(**changes):
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    return {
        "observation/scene_image": picture,
        "observation/wrist_image": picture,
        "observation/state": np.array([0.0, -0.6, 1.0, 0.9, 0.0, 0.0, 0.0], np.float32),
        "prompt": "stack the cubes",
        **changes,
    }


@pytest.mark.parametrize(("method", "holds"), [("identity", 0.6), ("prefix", 1e-3)])
def test_a_chunk_goes_on_as_the_configuration_says(config, tmp_path, method, holds):
    action = {**config["action"], "rtc": {"method": method}, "dtype": "float32"}
    process = Process(tmp_path, {**config, "action": action})
    try:
        process.wait_for("Service ready", seconds=300)
        with FlashTransportPolicy("127.0.0.1", process.ports()[1]) as policy:
            free = policy.infer(observation(seed=5), timeout=INFERENCE)["actions"]
            played = free + AWAY
            rtc = {"previous_actions": played, "delay": 8, "execution_horizon": 20}
            pulled = policy.infer(observation(seed=6, rtc=rtc), timeout=INFERENCE)["actions"]
        # the last number is the gripper's, which nothing pulls
        assert np.abs(pulled - played)[:8, :-1].max() < holds * AWAY
        assert np.abs(pulled - played)[-1].max() > 0.9 * AWAY
    finally:
        process.kill()


def test_switches_of_jax_are_refused_for_it_before_a_port_is_opened(config, tmp_path):
    action = {**config["action"], "graph": {"static_cache": False}}
    process = Process(tmp_path, {**config, "action": action})
    try:
        code, err = process.end()
    finally:
        process.kill()
    assert code == 2
    assert "action.graph: its switches are for JAX only" in err
    assert not process.lines
