"""Episodes that the robot side records become a dataset, with what a person did apart."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flash_transport import encode_jpeg
from openpi_flash_robot.bridge.effects import PublishSubtask, PublishTrajectory
from openpi_flash_robot.bridge.instruction import Instruction
from openpi_flash_robot.bridge.status import Cause, Condition, State, Status
from openpi_flash_robot.episodes.definitions import COMPRESSED_IMAGE, JOINT_STATE
from openpi_flash_robot.episodes.recording import EpisodeRecording
from openpi_flash_robot.episodes.ros_messages import joint_state_message, jpeg_message
from openpi_flash_robot.link.events import LinkUp
from openpi_flash_robot.play.trajectory import Trajectory
from openpi_flash_robot.run.settings_file import file_parameters
from openpi_flash_robot.settings.parse_settings import settings_from_parameters
from openpi_flash_server.cli import app
from openpi_flash_training.dataset.reader import Dataset

NODE_FILE = Path(__file__).parents[3] / "config/robots/sim_arm.yaml"
SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND
STEP = 10_000_000
RUNNING = Status(
    Condition(State.RUNNING, Cause.NONE, ""),
    Instruction("pick"),
    "pi05",
    "weights",
    1,
    0.1,
    5,
    0,
    0,
)


def recorded(
    folder: Path,
    seconds: float,
    takeover: tuple[float, float],
    *,
    node_file: Path = NODE_FILE,
    rate: float = 0.0,
    silent: str = "",
) -> Path:
    """An episode in which every joint is where its number times the time is; its file.

    Args:
        folder: where it goes.
        seconds: its length.
        takeover: seconds (from, to) in which a person drives.
        node_file: the parameters of the node that records it.
        rate: velocity of the first joint that is commanded, of the second twice that.
        silent: a controller that is commanded nothing.
    """
    settings = settings_from_parameters(file_parameters(node_file))
    recording = EpisodeRecording("/openpi/client_node", "/openpi", settings, str(folder), no_type)
    recording.link_event(LinkUp({"model": "pi05", "checkpoint": {"name": "w", "digest": "d1"}}))
    at = datetime(2026, 1, 2, tzinfo=timezone.utc)
    answer = recording.start(BEGIN, 0, at, RUNNING)
    assert answer.success
    (joints_topic,) = settings.observation.joint_state_topics
    names = settings.joints
    speed = np.arange(1, len(names) + 1)
    for tick in range(round(seconds * SECOND) // STEP):
        now = BEGIN + tick * STEP
        t = tick * STEP / SECOND
        data = joint_state_message(now, names, speed * t)
        recording.message(now, joints_topic, JOINT_STATE, data, len(data))
        if tick % 3 == 0:
            for number, camera in enumerate(settings.observation.cameras):
                image = np.full((24, 32, 3), 60 + 60 * number, np.uint8)
                make = partial(jpeg_message, now, encode_jpeg(image))
                topic = camera.topic
                if not topic.endswith("/compressed"):
                    topic += "/compressed"
                recording.message(now, topic, COMPRESSED_IMAGE, make, 3_000)
        if tick % 2 == 0:
            ahead = np.array([0, 20_000_000, 40_000_000])
            positions = (t + ahead[:, None] / SECOND + 0.5) * speed
            velocities = np.tile(rate * speed, (len(ahead), 1))
            for controller in settings.controllers:
                if controller.name != silent:
                    at = list(controller.columns)
                    window = Trajectory(now, ahead, positions[:, at], velocities[:, at])
                    recording.effect(now, PublishTrajectory(controller, window))
        if tick == 50:
            recording.effect(now, PublishSubtask(now, "reach", "pick", 1))
        is_taken = takeover[0] <= t < takeover[1]
        recording.status(now, replace(RUNNING, intervention=is_taken))
    recording.mark(True)
    recording.stop(round(seconds * SECOND))
    notices = recording.close(0)
    assert not any(notice.is_bad for notice in notices), notices
    return Path(answer.message)


def no_type(_: str) -> None:
    return None


def convert(source: Path, out: Path, *options: object, robot: str = "sim_arm") -> Dataset:
    arguments = ["dataset", "convert", source, out, "--robot", robot, "--no-lint", *options]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return Dataset.open(out)


@pytest.fixture(scope="module")
def episode(tmp_path_factory) -> Path:
    return recorded(tmp_path_factory.mktemp("episodes"), 6.0, (2.0, 4.0))


@pytest.mark.parametrize("options", [(), ("--node-file", NODE_FILE)], ids=["by name", "by file"])
def test_an_episode_becomes_a_dataset(episode, tmp_path, options):
    data = convert(episode, tmp_path / "set", "--png", *options)
    (found,) = data.episodes
    assert found.tasks == ("pick",)
    assert found.facts["recorded.success"] is True
    assert found.facts["recorded.checkpoint_digest"] == "d1"
    times = np.arange(found.length) / 15
    assert found.length == pytest.approx(90, abs=2)
    numbers = data.numbers(0)
    speed = np.arange(1, 8)
    measured, commanded = numbers["observation.state"] / speed, numbers["action"] / speed
    np.testing.assert_allclose(measured, np.tile(times[:, None], 7), atol=0.011)
    np.testing.assert_allclose(commanded, np.tile(times[:, None] + 0.5, 7), atol=0.021)
    assert numbers["intervention"][:, 0].sum() == pytest.approx(30, abs=1)


VELOCITY_ARM = (
    "      arm:\n        topic: ",
    "      arm:\n        kind: velocity\n        topic: ",
)


@pytest.fixture
def droid_file(tmp_path) -> Path:
    """DROID's node, which tells the arm velocities and the gripper the goals of an action."""
    text = NODE_FILE.with_name("droid.yaml").read_text()
    assert text.count(VELOCITY_ARM[0]) == 1
    file = tmp_path / "droid.yaml"
    file.write_text(text.replace(*VELOCITY_ARM))
    return file


def test_velocities_and_gripper_goals_are_read_as_they_were_commanded(droid_file, tmp_path):
    episode = recorded(tmp_path, 3.0, (0.0, 0.0), node_file=droid_file, rate=0.3)
    options = ("--node-file", droid_file, "--actions", "commanded")
    action = convert(episode, tmp_path / "set", *options, robot="droid").numbers(0)["action"]
    # 1 of the policy is 3 rad/s
    wanted = np.tile(0.1 * np.arange(1, 8), (len(action), 1))
    np.testing.assert_allclose(action[:, :7], wanted, rtol=1e-5)
    # and 0.8 rad of the gripper, the eighth joint, which is commanded 0.5 s ahead
    times = np.arange(len(action)) / 15
    np.testing.assert_allclose(action[:, 7], 8 * (times + 0.5) / 0.8, atol=0.21)


def test_without_gripper_goals_the_measured_gripper_is_the_action(droid_file, tmp_path):
    episode = recorded(tmp_path, 3.0, (0.0, 0.0), node_file=droid_file, rate=0.3, silent="hand")
    data = convert(episode, tmp_path / "set", "--node-file", droid_file, robot="droid")
    numbers = data.numbers(0)
    np.testing.assert_allclose(numbers["action"][:, 0], 0.1, rtol=1e-5)
    np.testing.assert_array_equal(numbers["action"][:-1, 7], numbers["observation.state"][1:, 7])


def test_only_what_a_person_did_can_be_taken(episode, tmp_path):
    data = convert(episode, tmp_path / "set", "--only-interventions")
    (found,) = data.episodes
    assert found.length == pytest.approx(30, abs=1)
    assert data.numbers(0)["observation.state"][0, 0] == pytest.approx(2.0, abs=0.08)
