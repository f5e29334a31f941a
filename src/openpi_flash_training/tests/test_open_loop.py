"""`openpi-flash eval --dataset`: a policy's chunks beside those of a dataset."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from drawing import needs_pictures
from numpy.testing import assert_allclose, assert_array_equal
from typer.testing import CliRunner

from openpi_flash_server.cli import app
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.demonstrations.columns import ACTION, CHUNKS, STATE
from openpi_flash_training.episodes.error import DataError
from openpi_flash_training.evaluation import open_loop
from openpi_flash_training.evaluation.open_loop import measure_errors
from openpi_flash_training.evaluation.policy import ExpertPolicy, Reply
from openpi_flash_training.evaluation.served_policy import ServerChoice
from sim_robot.robot import JOINTS

SIDE, LENGTH = 8, 5
SERVER = ServerChoice("nobody")


class Ahead:
    """A policy whose step k is `rise` * (k + 1) above where the arm is."""

    def __init__(self, rise=0.01, rate_hz=10.0):
        self.agreement = ExpertPolicy(rate_hz).agreement
        self.rise, self.asked, self.is_closed, self.is_fresh = rise, [], False, False

    def reset(self):
        self.is_fresh = True

    def answer(self, query):
        assert self.is_fresh
        self.is_fresh = False
        self.asked.append(query)
        steps = np.arange(1, 11)[:, None]
        return Reply(query.joints + self.rise * steps)

    def close(self):
        self.is_closed = True


@pytest.fixture
def policy(monkeypatch):
    ahead = Ahead()
    monkeypatch.setattr(open_loop, "open_choice", lambda _: ahead)
    return ahead


def write(folder, *, cameras=("scene", "wrist"), chunks=None, task="t", fps=10, **facts):
    """Two episodes in which every joint rises by 0.01 a frame, and the action is what comes."""
    names = [f"observation.images.{name}" for name in cameras]
    features = {name: Feature("image", (SIDE, SIDE, 3)) for name in names}
    features |= {name: Feature("float32", (7,)) for name in (STATE, ACTION)}
    if chunks is not None:
        features[CHUNKS] = Feature("float32", chunks.shape[1:])
    with DatasetWriter(folder, fps, features) as writer:
        for episode in range(2):
            rising = np.tile(0.01 * np.arange(LENGTH + 1)[:, None], (1, 7))
            numbers = {STATE: rising[:-1], ACTION: rising[1:]}
            if chunks is not None:
                numbers[CHUNKS] = chunks
            shade = 10 + 100 * episode + 10 * np.arange(LENGTH)
            images = np.broadcast_to(shade[:, None, None, None], (LENGTH, SIDE, SIDE, 3))
            images = {name: images.astype(np.uint8) + i for i, name in enumerate(names)}
            writer.add_episode(task, numbers, images, facts=facts)
    return folder


def expert_chunks(horizon=4):
    """Of every frame: the arm stays, and rises 0.1 for the second cube, 0.2 for the third."""
    state = 0.01 * np.arange(LENGTH)[:, None, None, None]
    return state + 0.1 * np.arange(3)[:, None, None] + np.zeros((1, 3, horizon, 7))


@pytest.mark.parametrize("cameras", [("scene", "wrist"), ("scene_image", "wrist_image")])
def test_actions_that_follow_are_the_chunk_where_there_are_no_others(tmp_path, policy, cameras):
    errors = measure_errors(SERVER, write(tmp_path / "set", cameras=cameras), 100)
    assert (errors.frames, errors.source, errors.step_s) == (2 * LENGTH, ACTION, 0.1)
    assert errors.names == JOINTS
    # no more steps than the longest rest of an episode
    assert_allclose(errors.mean, np.zeros((LENGTH, 7)), atol=1e-6)
    assert_allclose(errors.still[:, 0], 0.01 * np.arange(1, LENGTH + 1), atol=1e-6)
    assert policy.is_closed
    seen = {name: [q.images[name][0, 0, 0] for q in policy.asked] for name in ("scene", "wrist")}
    assert_array_equal(seen["scene"], [10, 20, 30, 40, 50, 110, 120, 130, 140, 150])
    assert_array_equal(seen["wrist"], np.array(seen["scene"]) + 1)


def test_frames_are_spread_over_the_whole_dataset(tmp_path, policy):
    errors = measure_errors(SERVER, write(tmp_path / "set"), 3)
    assert errors.frames == 3
    assert [query.seed for query in policy.asked] == [0, 4, 4]
    assert [query.images["scene"][0, 0, 0] for query in policy.asked] == [10, 50, 150]


@pytest.mark.parametrize(
    ("task", "facts", "cube"),
    [
        ("touch the green cube", {}, 1),
        ("place the blue cube", {"cube": "green_cube"}, 1),
        ("put the blue cube on the plate", {"cube": "green_cube"}, 2),
    ],
)
def test_demonstrations_are_compared_with_the_experts_chunk(tmp_path, policy, task, facts, cube):
    policy.rise = 0.0
    folder = write(tmp_path / "set", chunks=expert_chunks(), task=task, **facts)
    errors = measure_errors(SERVER, folder, 100)
    assert errors.source == CHUNKS
    assert_allclose(errors.mean, np.full((4, 7), 0.1 * cube), atol=1e-6)
    assert_allclose(errors.still, errors.mean)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fps": 25}, "has 25 frames a second, and the policy's chunks 10 steps"),
        (
            {"cameras": ("scene", "hand")},
            "the dataset has no column for observation/wrist_image; it is found by its "
            "name alone, so rename it; there are observation.images.scene, observation.images.hand",
        ),
        (
            {"chunks": expert_chunks(), "task": "dance"},
            "episode 0: has the prompt 'dance', which is none of a task's, and names no cube; "
            "known are touch the red cube, touch the green cube, touch the blue cube, pick up",
        ),
    ],
)
def test_a_dataset_that_cannot_be_compared_is_named(tmp_path, policy, given, message):
    folder = write(tmp_path / "set", **given)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        measure_errors(SERVER, folder, 10)
    assert caught.value.path == str(folder)


def test_a_dataset_without_an_episode_is_refused(tmp_path, policy):
    DatasetWriter(tmp_path / "set", 10, {"x": Feature("float32", (1,))}).close()
    with pytest.raises(DataError, match="has no frame to ask about"):
        measure_errors(SERVER, tmp_path / "set", 10)


def run(*arguments):
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def test_the_command_prints_a_row_for_each_step_or_json_and_writes_a_page(tmp_path, policy):
    given = ("--server", "nobody", "--dataset", write(tmp_path / "set"), "--episodes", 10)
    result = run(*given)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"10 frames of {tmp_path / 'set'}, against action"
    assert lines[2].split() == ["time/s", *JOINTS]
    assert lines[4].split()[:3] == ["0.10", "0.0000", "(0.0200)"]
    page = tmp_path / "page.html"
    result = run(*given, "--json", "--report", page)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["frames"], found["source"], found["names"]) == (10, "action", list(JOINTS))
    assert np.shape(found["mean"]) == np.shape(found["still"]) == (LENGTH, 7)
    html = page.read_text()
    assert html.count("data:image/png;base64,") == 1
    assert f"Open-loop error on {tmp_path / 'set'}" in html
    assert not re.search(r'(src|href)="(?!data:)', html)


def test_the_expert_cannot_be_asked_about_pictures(tmp_path):
    result = run("--policy", "expert", "--dataset", write(tmp_path / "set"))
    assert result.exit_code == 2
    assert "cannot be asked about a dataset's pictures" in " ".join(result.output.split())


@needs_pictures
def test_a_served_policy_that_sees_is_nearer_to_the_expert_than_an_arm_that_stands(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    made = ["demonstrations", str(tmp_path / "set"), "--task", "touch", "--episodes", "3"]
    result = CliRunner().invoke(app, [*made, "--seconds", "1", "--no-noise"])
    assert result.exit_code == 0, result.output
    policy = ("--policy", "python:colour_policy:ColourPolicy")
    result = run(*policy, "--dataset", tmp_path / "set", "--episodes", 6, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["source"] == CHUNKS
    assert np.mean(found["mean"]) < 0.5 * np.mean(found["still"])
