"""`openpi-flash sim`: the arm in real time, a policy or a person, and what is recorded of both."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from drawing import needs_pictures
from policy_server import served
from typer.testing import CliRunner

from openpi_flash_server.cli import app
from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.live.jog import STEP, Jog, press
from openpi_flash_training.live.keyboard import Keyboard
from sim_robot.gl_backend import choose_gl_backend
from sim_robot.kinematics import DOWN, Pose, pose_of

HAND = Pose((0.33, 0.05, 0.20), DOWN - 0.1, 0.2, 0.1)


def pressed(keys, hand=HAND, grip=0.0):
    jog = Jog()
    for key in keys:
        jog = press(jog, key, hand, grip)
    return jog


def test_keys_move_the_hand_of_who_has_taken_it_and_of_nobody_else():
    assert pressed("wwar").joints() is None
    jog = pressed("twwar ")
    hand = pose_of(jog.joints())
    assert hand.point == pytest.approx((0.33 + 2 * STEP, 0.05 + STEP, 0.20 + STEP))
    assert (hand.pitch, hand.yaw) == pytest.approx((DOWN, 0.0))
    assert jog.joints()[-1] == 1.0
    assert pressed("twwt") == Jog()


def test_a_gripper_that_holds_something_stays_closed_when_a_person_takes_over():
    assert pressed("t", grip=0.45).joints()[-1] == 1.0
    assert pressed("t ", grip=0.45).joints()[-1] == 0.0


def test_the_hand_stops_where_the_arm_does_not_reach():
    far = pressed("t" + 100 * "w")
    assert far.target.point[0] < 0.33 + 100 * STEP
    assert far.joints() is not None


def test_n_ends_the_episode_and_q_the_run():
    assert (pressed("n").wants_next, pressed("n").wants_end) == (True, False)
    assert (pressed("q").wants_next, pressed("q").wants_end) == (True, True)


def test_the_keyboard_reads_single_keys_and_leaves_the_terminal_as_it_was(monkeypatch):
    import termios

    ours, theirs = os.openpty()
    with os.fdopen(theirs) as terminal:
        before = termios.tcgetattr(terminal)
        monkeypatch.setattr(sys, "stdin", terminal)
        with Keyboard() as keyboard:
            assert keyboard.is_open
            assert keyboard.typed() == ""
            os.write(ours, b"tw")
            typed = ""
            while len(typed) < 2:
                typed += keyboard.typed()
            assert typed == "tw"
        assert termios.tcgetattr(terminal) == before
    os.close(ours)


def test_without_a_terminal_there_are_no_keys(monkeypatch):
    with Path(os.devnull).open() as nowhere:
        monkeypatch.setattr(sys, "stdin", nowhere)
        with Keyboard() as keyboard:
            assert not keyboard.is_open
            assert keyboard.typed() == ""


def run(*arguments):
    result = CliRunner().invoke(app, ["sim", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@needs_pictures
def test_the_expert_does_its_task_in_real_time_and_is_recorded_at_a_steady_rate(tmp_path):
    result = run(
        *("--expert", "--task", "touch", "--episodes", "2", "--simulation-time", "60"),
        *("--output-dir", str(tmp_path / "recorded"), "--image-size", "56"),
    )
    assert result.exit_code == 0, result.output
    assert "2 of 2 episodes done" in result.stdout
    dataset = Dataset.open(tmp_path / "recorded")
    assert [episode.facts["success"] for episode in dataset.episodes] == [True, True]
    numbers = dataset.numbers(0)
    assert not numbers["intervention"].any()
    # the arm follows what it is told, and its pictures show it
    assert np.abs(numbers["action"][:, :6] - numbers["observation.state"][:, :6]).max() < 0.3
    pictures = dataset.images(0, "observation.images.scene", range(dataset.episodes[0].length))
    assert pictures.std() > 20
    assert np.abs(pictures[-1].astype(int) - pictures[0]).max() > 60


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("server"), "python:colour_policy:ColourPolicy") as found:
        yield found


@needs_pictures
@pytest.mark.parametrize("transport", ["quic", "websocket"])
def test_a_server_is_asked_over_each_transport_and_moves_the_arm(server, transport, tmp_path):
    link = ["--transport", transport]
    # the WebSocket of this server is plain
    link += ["--server-fingerprint", server.fingerprint] if transport == "quic" else []
    result = run(
        *(getattr(server, transport), *link, "--task", "touch", "--cube", "blue"),
        *("--episodes", "1", "--simulation-time", "40", "--output-dir", str(tmp_path / "out")),
    )
    assert result.exit_code == 0, result.output
    # only the pictures that it was sent say where the cube is
    assert "1 of 1 episodes done" in result.stdout
    assert Dataset.open(tmp_path / "out").tasks == ("touch the blue cube",)


class ScriptedKeyboard:
    """Takes the arm, lifts it, gives it back when it is up, and ends the run a little later."""

    is_open = True

    def __init__(self):
        self.looks = 0
        self.arm = None
        self.low = None

    def typed(self):
        if self.arm is None:
            return ""
        height = self.arm.state().hand.point[2]
        if self.low is None:
            self.low = height
            return "t" + 10 * "r"
        if self.looks == 0 and height < self.low + 0.08:
            return ""
        self.looks += 1
        return {1: "t", 50: "q"}.get(self.looks, "")


class Idle:
    """A policy that stays where it is."""

    link_estimate = None

    def __init__(self, arm, keyboard):
        self.arm = keyboard.arm = arm

    def infer_with_stats(self, observation, timeout=None):
        from flash_transport.stats import CallStats

        actions = np.tile(np.array(self.arm.state().joints), (10, 1))
        return {"actions": actions}, CallStats(0.0, 0.0, 0, 0, 0)

    def get_server_metadata(self):
        from openpi_flash_training.evaluation.policy import expert_metadata

        return expert_metadata(10, 10)

    def reset(self):
        pass

    def close(self):
        pass


@needs_pictures
def test_a_person_takes_the_arm_by_the_keyboard_and_that_is_recorded(tmp_path, monkeypatch):
    from openpi_flash_training.demonstrations.recording import DatasetRecorder
    from openpi_flash_training.evaluation.arm_settings import arm_settings
    from openpi_flash_training.live.session import LivePlan, LiveSession

    monkeypatch.setenv("MUJOCO_GL", choose_gl_backend())
    recorder = DatasetRecorder(tmp_path / "taken", 10, 4, 56)
    settings = arm_settings(
        takeover_topic="keyboard", teleop_topic="keyboard", max_observation_age=0.5
    )
    plan = LivePlan(
        "pick", "red_cube", 5, 3, seconds=60.0, prompt="lift it", horizon=4, image_size=56
    )
    keyboard = ScriptedKeyboard()
    session = LiveSession(
        settings, plan, keyboard, recorder, connection=lambda arm: Idle(arm, keyboard)
    )
    ends = list(session.run())
    recorder.close()
    assert len(ends) == 1
    assert ends[0].was_ended
    assert ends[0].intervention_s > 0
    data = Dataset.open(tmp_path / "taken")
    # what the policy was told, not the task's own words
    assert data.episodes[0].tasks == ("lift it",)
    numbers = data.numbers(0)
    taken = numbers["intervention"][:, 0].astype(bool)
    assert taken.any()
    assert not taken.all()
    heights = np.array([pose_of(tuple(row)).point[2] for row in numbers["observation.state"]])
    # between two frames a person may lead it by centimetres
    assert heights[taken][-1] > heights[0] + 0.005
    # the policy takes over where the person has left the arm
    assert heights[-1] > heights[0] + 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a server"),
        (("--expert", "--task", "juggle"), "'juggle' is not one of touch, pick, place"),
        (("--expert", "--cube", "pink"), "'pink' is not one of red, green, blue"),
        (("--expert", "--method", "magic"), "chunk_method"),
    ],
)
def test_what_cannot_be_run_is_said_at_once(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output
