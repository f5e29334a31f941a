"""gym-aloha's transfer cube as a task of `openpi-flash eval`.

What needs gym-aloha runs where it is installed: `pip install './src/openpi_flash_training[aloha]'`.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from openpi_flash_models.robots.aloha import ALOHA
from openpi_flash_server.cli import app
from openpi_flash_training.evaluation.aloha_transfer_cube import (
    JOINTS,
    AlohaTransferCube,
    AlohaUnavailableError,
    aloha_settings,
    check_installed,
    progress_of,
)
from openpi_flash_training.evaluation.conditions import Conditions, trials
from openpi_flash_training.evaluation.measures import as_json, cell_of
from openpi_flash_training.evaluation.report import report
from openpi_flash_training.evaluation.task_facts import ALOHA_TRANSFER_CUBE
from openpi_flash_training.evaluation.text_table import details, table
from openpi_flash_training.evaluation.trial_result import TrialResult
from sim_robot.gl_backend import RenderingUnavailableError, choose_gl_backend
from sim_robot.tasks import Outcome, Progress

HAS_ALOHA = all(importlib.util.find_spec(name) for name in ("gym_aloha", "dm_control"))
try:
    GL = choose_gl_backend() if HAS_ALOHA else ""
except RenderingUnavailableError:
    GL = ""


def needs_aloha(test):
    skip = pytest.mark.skipif(not HAS_ALOHA, reason="gym-aloha is not installed")
    # its dependencies warn of their own age while they are imported
    return pytest.mark.filterwarnings("ignore")(skip(test))


def needs_pictures(test):
    skip = pytest.mark.skipif(HAS_ALOHA and not GL, reason="no OpenGL on this machine")
    return needs_aloha(skip(test))


def run(*arguments):
    result = CliRunner().invoke(app, ["eval", "--task", ALOHA_TRANSFER_CUBE, *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def first_trials(count):
    return trials(ALOHA_TRANSFER_CUBE, count, 7, Conditions())


def test_an_episode_succeeds_at_reward_4_and_keeps_when_each_reward_was_first_reached():
    progress = Progress()
    for step, reward in enumerate([0, 1, 2, 1, 2, 3]):
        progress = progress_of(progress, reward, step / 50)
    assert progress.outcome is Outcome.RUNNING
    assert progress.reached_at == {"touch": 0.02, "lift": 0.04, "meet": 0.1}
    progress = progress_of(progress, 4, 0.12)
    assert (progress.outcome, progress.ended_at) == (Outcome.SUCCESS, 0.12)
    assert progress.reached_at["transfer"] == 0.12


def test_the_robot_is_aloha_with_its_camera_from_above():
    settings = aloha_settings()
    assert settings.player.max_start_delta is not None
    assert [camera.key for camera in settings.observation.cameras] == [("images", "cam_high")]
    assert ALOHA.action_names == JOINTS
    assert len(JOINTS) == 14


def result_of(trial, *, is_success):
    progress = progress_of(Progress(), 4 if is_success else 2, 3.0)
    return TrialResult(
        *(trial, progress.outcome, None, progress.reached_at),
        *(3.0 if is_success else 6.0, 80.0, math.nan, 9, 0),
    )


def test_a_task_without_colours_has_no_table_of_them():
    results = [result_of(trial, is_success=trial.index < 3) for trial in first_trials(4)]
    assert {trial.prompt for trial in first_trials(4)} == {"Transfer cube"}
    cell = cell_of(results)
    assert cell.success.count == 3
    assert [share.count for share in cell.stages.values()] == [4, 4, 3, 3]
    assert details(cell) == ["stages reached      touch 4, lift 4, meet 3, transfer 3 of 4"]
    head, line = table([cell])
    assert line.index("plain") == head.index("prompts")
    found = json.loads(json.dumps(as_json(cell)))
    assert (found["success"], found["confusion"], found["shuffled"]) == (0.75, {}, None)
    assert "Colours" not in report("a policy", "a command", [cell], results)


def test_what_is_only_there_for_our_own_arm_is_refused():
    for given, message in (
        (("--policy", "expert"), "--policy expert: not with --task aloha-transfer-cube"),
        (("--through", "ros", "--swap-prompts"), "--through ros, --swap-prompts: not with"),
        (("--task", "touch,aloha-transfer-cube"), "cannot be measured in one run"),
    ):
        result = run(*given)
        assert result.exit_code == 2
        assert message in re.sub(r"[\s│]+", " ", result.output)


def test_without_gym_aloha_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        AlohaUnavailableError, match=r"pip install '\./src/openpi_flash_training\[aloha\]'"
    ):
        check_installed()
    result = run("--checkpoint", "nowhere")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: aloha-transfer-cube needs gym-aloha")


class Sample:
    def __init__(self, positions):
        self.positions = positions


class Still:
    """A motion that is somewhere at all times."""

    def __init__(self, positions):
        self._positions = positions

    def sample(self, now):
        return Sample(self._positions)


@needs_pictures
def test_states_and_rewards_are_those_of_gym_alohas_own_environment(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", GL)
    import gym_aloha.env

    trial = first_trials(1)[0]
    scene = AlohaTransferCube()
    scene.begin(trial)
    own = gym_aloha.env.AlohaEnv("transfer_cube", obs_type="pixels_agent_pos")
    own.reset(seed=int(np.random.default_rng((trial.seed, trial.index)).integers(2**31)))
    action, random, progress = scene.positions(), np.random.default_rng(0), Progress()
    for _ in range(8):
        action = action + random.normal(0, 0.05, 14)
        seen, _, is_over, _, _ = own.step(action)
        for _ in range(2):
            scene.advance(Still(action), action, 0)
        progress = scene.judge(trial, progress)
        np.testing.assert_array_equal(seen["agent_pos"], scene.positions())
        assert is_over == (progress.outcome is Outcome.SUCCESS)
    difference = seen["pixels"]["top"].astype(int) - scene.pictures()["cam_high"]
    assert np.abs(difference).max() <= 1
    scene.close()


@needs_aloha
def test_a_cube_that_the_left_hand_holds_above_the_table_is_a_success(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", GL or "egl")
    trial = first_trials(1)[0]
    scene = AlohaTransferCube()
    scene.begin(trial)
    told = scene.positions()
    for _ in range(2):
        scene.advance(None, told, 0)
    assert not scene.judge(trial, Progress()).reached_at
    finger = scene._physics.named.data.geom_xpos["vx300s_left/10_left_gripper_finger"]
    scene._physics.data.qpos[-7:-4] = finger - [0.04, 0.02, 0.04]
    scene._physics.forward()
    assert scene.judge(trial, Progress()).outcome is Outcome.SUCCESS
    scene.close()


@needs_pictures
def test_arms_that_stay_where_they_are_are_served_and_do_nothing(monkeypatch, tmp_path):
    """The whole way but the success: camera, server, chunks, player, physics, report, gate."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    file = tmp_path / "report.html"
    result = run(
        *("--policy", "python:still_arms:StillArms", "--episodes", "1", "--execution-s", "0.9"),
        *("--report", str(file), "--at-least", "0.5", "--json"),
    )
    assert result.exit_code == 1, result.output
    assert "aloha-transfer-cube: 0 of 1 [0.00, 0.79] is below 0.5" in result.stderr
    cell = json.loads(result.stdout)["cells"][0]
    assert (cell["successes"], cell["holds"], cell["stages"]["touch"]) == (0, 0, 0)
    assert cell["rms_jerk"] < 50
    assert file.read_text().count("data:video/mp4;base64,") == 1
