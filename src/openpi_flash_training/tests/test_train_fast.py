"""pi0-FAST from demonstrations to a chunk: what a run has learnt by heart, serving decodes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from train_runs import CAMERAS, write_statistics
from typer.testing import CliRunner

from openpi_flash_models.actions.fast import DIRECTORY
from openpi_flash_models.checkpoints.check import check_policy_checkpoint
from openpi_flash_models.config.robot_file import add_robot_file
from openpi_flash_models.downloads import cached
from openpi_flash_models.load import load_policy
from openpi_flash_server.cli import app
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.writer import DatasetWriter

MODEL_DATA = Path(__file__).parents[2] / "openpi_flash_models/tests/data"
TASK = "touch the red cube"
HORIZON, WIDTH, SIDE = 4, 7, 56

ROBOT = """
robots:
  - name: still_arm
    control_hz: 10
    cameras:
      - {key: observation/scene_image, slot: base_0_rgb}
      - {key: observation/wrist_image, slot: left_wrist_0_rgb}
    state: [{key: observation/state, size: 7}]
    actions: [j0, j1, j2, j3, j4, j5, j6]
configs:
  - {name: fast_arm, robot: still_arm, model: pi0_fast, asset_id: still_arm,
     action_horizon: 4, max_token_len: 180}
"""


PICTURE = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
STATE = np.linspace(-0.5, 0.5, WIDTH, dtype=np.float32)
ACTION = np.linspace(0.6, -0.6, WIDTH, dtype=np.float32)


@pytest.fixture
def dataset(tmp_path):
    """One episode in which the same is seen and done, so that there is one chunk to learn."""
    folder = tmp_path / "dataset"
    features = {camera: Feature("image", (SIDE, SIDE, 3)) for camera in CAMERAS}
    features |= {name: Feature("float32", (WIDTH,)) for name in ("observation.state", "action")}
    length = 8
    with DatasetWriter(folder, fps=10, features=features) as writer:
        writer.add_episode(
            TASK,
            {
                "observation.state": np.tile(STATE, (length, 1)),
                "action": np.tile(ACTION, (length, 1)),
            },
            {camera: np.tile(PICTURE, (length, 1, 1, 1)) for camera in CAMERAS},
        )
    ranges = np.array([[-1.0], [1.0]]) * np.ones((2, WIDTH))
    write_statistics(folder, {"state": ranges, "actions": ranges}, asset_id="still_arm")
    return folder


def test_what_was_learnt_by_heart_is_what_the_saved_policy_does(tmp_path, dataset, monkeypatch):
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path / "cache"))
    shutil.copytree(MODEL_DATA / "fast", cached("hf://physical-intelligence/fast"))
    robot_file = tmp_path / "robot.yaml"
    robot_file.write_text(ROBOT)
    words = tmp_path / "paligemma_tokenizer.model"
    shutil.copy(MODEL_DATA / words.name, words)
    settings = {
        "model": {
            "config": "fast_arm",
            "robot_file": str(robot_file),
            "size": "tiny",
            "tokenizer": str(words),
        },
        "data": {"dataset": str(dataset), "threads": 1},
        "loss": {"augment": None},
        "optimizer": {
            "peak_rate": 1e-2,
            "warmup_steps": 10,
            "decay_steps": 300,
            "end_rate": 1e-4,
            "ema_decay": None,
        },
        "run": {"output": str(tmp_path / "run"), "steps": 300, "batch_size": 4, "log_every": 50},
    }
    config = tmp_path / "run.json"
    config.write_text(json.dumps(settings))
    done = CliRunner().invoke(app, ["train", str(config)])
    assert done.exit_code == 0, done.output
    checkpoint = tmp_path / "run/299"
    assert (checkpoint / DIRECTORY / "tokenizer.json").is_file()
    add_robot_file(robot_file)
    findings = check_policy_checkpoint("fast_arm", str(checkpoint))
    assert [finding for finding in findings if finding.severity == "error"] == []

    policy = load_policy("fast_arm", str(checkpoint))
    chunk = policy.infer(
        {
            "observation/scene_image": PICTURE,
            "observation/wrist_image": PICTURE,
            "observation/state": STATE,
            "prompt": TASK,
        }
    ).actions
    assert chunk.shape == (HORIZON, WIDTH)
    np.testing.assert_allclose(chunk, np.tile(ACTION, (HORIZON, 1)), atol=0.1)
