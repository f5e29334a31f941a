"""run/episodes.py: a robot in plain Python with a real server records what it does."""

import io
from collections import defaultdict
from datetime import datetime

import numpy as np
import pytest
from plain_robot import PlainRobot, Told, settings_for
from scripted_server import ScriptedServer, sweep

from flash_transport import decode_image
from openpi_flash_robot.plain import EpisodeError, PolicyRunner
from openpi_flash_robot.run import episodes

make_reader = pytest.importorskip("mcap.reader").make_reader
decoders = pytest.importorskip("mcap_ros2.decoder")
pytestmark = pytest.mark.filterwarnings("ignore:server 127.0.0.1")


@pytest.fixture
def server():
    server = ScriptedServer(sweep())
    yield server
    server.stop()


def contents(path):
    reader = make_reader(
        io.BytesIO(path.read_bytes()),
        validate_crcs=True,
        decoder_factories=[decoders.DecoderFactory()],
    )
    topics, facts = defaultdict(list), {}
    for _, channel, message, decoded in reader.iter_decoded_messages():
        topics[channel.topic].append((message.log_time, decoded))
    for record in reader.iter_metadata():
        facts |= record.metadata
    return topics, facts


@pytest.mark.parametrize("quality", [90, 0])
def test_an_episode_holds_what_the_robot_read_and_was_told(server, tmp_path, quality):
    robot, told = PlainRobot(), Told()
    robot.image[:] = 120
    settings = settings_for(
        server.port, record_folder=str(tmp_path / "e"), record_jpeg_quality=quality
    )
    with PolicyRunner(robot, settings, on_command=told) as runner:
        with pytest.raises(EpisodeError, match="no episode has been recorded yet"):
            runner.episodes.stop()
        path = runner.episodes.start()
        with pytest.raises(EpisodeError, match="is being recorded"):
            runner.episodes.start()
        told.until_moving()
        runner.set_prompt("put it down")
        assert runner.episodes.mark(success=False) == f"{path.name}: failure"
    assert not runner.episodes.is_recording
    topics, facts = contents(path)
    _, joints = topics["/joint_states"][0]
    assert joints.name == list(settings.joints)
    assert joints.position == pytest.approx([0.1, 0.2, 0.5])
    topic = "/scene/image/compressed" if quality else "/scene/image"
    _, image = topics[topic][0]
    pixels = decode_image(bytes(image.data)) if quality else np.frombuffer(image.data, np.uint8)
    assert abs(pixels.astype(int) - 120).max() <= 2
    commands = topics["/robot/joint_trajectory"]
    sent = {tuple(command.positions) for command in told.commands}
    assert len(commands) > 1
    for log_ns, command in commands:
        (point,) = command.points
        assert tuple(point.positions) in sent
        assert command.joint_names == list(settings.joints)
        stamp = command.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == log_ns
    _, chunk = topics["/openpi/action_chunk"][0]
    start_ns = chunk.header.stamp.sec * 10**9 + chunk.header.stamp.nanosec
    assert abs(start_ns - topics["/openpi/action_chunk"][0][0]) < 10 * 10**9
    assert [text.data for _, text in topics["/openpi/prompt"]] == [
        "stack the cubes",
        "put it down",
    ]
    assert (facts["result"], facts["ended"]) == ("failure", "the recorder ended")


def test_episodes_of_one_millisecond_have_files_of_their_own(server, tmp_path, monkeypatch):
    class Stopped(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5, 999_000, tz)

    monkeypatch.setattr(episodes, "datetime", Stopped)
    settings = settings_for(server.port, record_folder=str(tmp_path))
    with PolicyRunner(PlainRobot(), settings) as runner:
        first, _ = runner.episodes.start(), runner.episodes.stop()
        _, _ = runner.episodes.start(), runner.episodes.discard()
        third = runner.episodes.start()
    assert sorted(tmp_path.iterdir()) == [first, third]
    assert first.name.endswith("05-999Z.mcap")
    assert third.name.endswith("06-001Z.mcap")


def test_an_error_of_the_recorder_ends_the_episode_and_not_the_robot(
    server, tmp_path, monkeypatch, caplog
):
    robot, told = PlainRobot(), Told()
    settings = settings_for(server.port, record_folder=str(tmp_path / "e"))
    with PolicyRunner(robot, settings, on_command=told) as runner:
        told.until_moving()
        runner.episodes.start()

        def broken(*_):
            raise RuntimeError("broken")

        monkeypatch.setattr(runner.episodes, "_add_status", broken)
        count = len(told.commands)
        told.until(lambda commands: len(commands) > count + 5)
        assert not runner.episodes.is_recording
    assert "the episode has ended by an error: broken" in caplog.text


def test_a_runner_that_records_nothing_makes_no_folder(server, tmp_path):
    settings = settings_for(server.port, record_folder=str(tmp_path / "e"))
    with PolicyRunner(PlainRobot(), settings):
        pass
    assert not (tmp_path / "e").exists()
