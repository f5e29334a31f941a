"""From recordings with ROS messages to a dataset."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bags import BEGIN, JOINTS, SECOND, STORE, TYPES, Arm, Sent, raw_image, write_bag, write_mcap
from typer.testing import CliRunner

from openpi_flash_server.cli import app
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.reader import Dataset

SCENE, WRIST = "observation.images.scene_image", "observation.images.wrist_image"
NODE_FILE = Path(__file__).parents[3] / "config/robots/sim_arm.yaml"


def run(*arguments: object):
    return CliRunner().invoke(app, ["dataset", *map(str, arguments)])


def convert(source: Path, out: Path, *options: object) -> Dataset:
    result = run("convert", source, out, "--robot", "sim_arm", "--no-lint", *options)
    assert result.exit_code == 0, result.output
    return Dataset.open(out)


@pytest.mark.parametrize("storage", ["sqlite", "bag of mcap", "mcap"])
@pytest.mark.parametrize("by", ["name", "node file"])
def test_every_storage_gives_the_same_dataset(tmp_path, storage, by):
    arm = Arm(prompts=((0.0, "pick up the cube"),))
    if storage == "mcap":
        source = write_mcap(tmp_path / "run.mcap", arm.messages())
    else:
        source = write_bag(tmp_path / "run", arm.messages(), mcap=storage == "bag of mcap")
    options = () if by == "name" else ("--node-file", NODE_FILE)
    data = convert(source, tmp_path / "set", "--png", *options)
    assert data.fps == 15
    assert data.robot_type == "sim_arm"
    assert data.features == {
        "observation.state": Feature("float32", (7,), JOINTS),
        "action": Feature("float32", (7,), JOINTS),
        SCENE: Feature("image", (24, 32, 3)),
        WRIST: Feature("image", (16, 16, 3)),
    }
    (episode,) = data.episodes
    assert episode.tasks == ("pick up the cube",)
    assert episode.facts["source"] == str(source)
    times = np.arange(episode.length) / 15
    numbers = data.numbers(0)
    measured = np.floor(times * 100 + 1e-6) / 100
    np.testing.assert_allclose(
        numbers["observation.state"], measured[:, None] * np.arange(1, 8), atol=1e-5
    )
    commanded = np.floor(times * 50 + 1e-6) / 50 + 0.5
    np.testing.assert_allclose(numbers["action"], commanded[:, None] * np.arange(1, 8), atol=1e-5)
    scene = data.images(0, SCENE, range(episode.length))[:, 0, 0, 0]
    assert scene.tolist() == np.floor(times * 30 + 1e-6).astype(int).tolist()
    assert abs(data.images(0, WRIST, [3]).astype(int) - 60).max() <= 1


def test_numbers_are_converted_as_the_node_does(tmp_path):
    """A state is scaled, a gripper's command goes from the hand's ends to the policy's."""
    node_file = tmp_path / "robot.yaml"
    text = NODE_FILE.read_text().replace(
        "    state_key: observation/state\n",
        "    states: [arm, hand]\n"
        "    state:\n"
        f"      arm: {{key: observation/state, joints: [{', '.join(JOINTS[:6])}]}}\n"
        "      hand: {key: observation/state, joints: [gripper], scale: [10.0], offset: [1.0]}\n"
        "    gripper_joints: [gripper]\n"
        "    gripper: {gripper: {closed: 2.0, open: 4.0}}\n",
    )
    node_file.write_text(text)
    source = write_mcap(tmp_path / "run.mcap", Arm().messages())
    data = convert(source, tmp_path / "set", "--task", "t", "--node-file", node_file)
    plain = convert(source, tmp_path / "plain", "--task", "t")
    there, wanted = data.numbers(0), plain.numbers(0)
    np.testing.assert_array_equal(there["action"][:, :6], wanted["action"][:, :6])
    np.testing.assert_allclose(
        there["observation.state"][:, 6], wanted["observation.state"][:, 6] * 10 + 1, rtol=1e-5
    )
    # the policy's 1 is closed, its 0 open
    np.testing.assert_allclose(
        there["action"][:, 6], (4.0 - wanted["action"][:, 6]) / 2.0, rtol=1e-5, atol=1e-6
    )


def test_images_are_fitted_into_a_square(tmp_path):
    source = write_mcap(tmp_path / "run.mcap", Arm(seconds=2).messages())
    data = convert(source, tmp_path / "set", "--task", "t", "--png", "--image-size", "32")
    image = data.images(0, SCENE, [20])[0]
    assert image.shape == (32, 32, 3)
    assert image[:4].max() == 0
    assert image[16, 16, 0] == 40


def test_a_silent_camera_cuts_the_episode_and_is_reported(tmp_path):
    source = write_mcap(tmp_path / "run.mcap", Arm(seconds=6, silent=(2.0, 4.0)).messages())
    result = run("convert", source, tmp_path / "set", "--robot", "sim_arm", "--task", "t")
    assert result.exit_code == 0, result.output
    data = Dataset.open(tmp_path / "set")
    first, second = data.episodes
    assert f"{first.length} + {second.length} frames" in result.output
    assert "observation/scene_image: 30 Hz" in result.output
    assert "longest gap 2.03 s" in result.output
    assert data.numbers(0)["observation.state"][-1, 0] == pytest.approx(2.46, abs=0.03)
    assert data.numbers(1)["observation.state"][0, 0] == pytest.approx(4.0, abs=0.07)


def test_a_camera_with_another_clock_is_timed_by_the_recorder(tmp_path):
    source = write_mcap(tmp_path / "run.mcap", Arm(camera_offset=-500).messages())
    result = run("convert", source, tmp_path / "set", "--robot", "sim_arm", "--task", "t")
    assert "scene_camera/image_raw: its stamps are -500 s off the time of recording" in (
        result.output
    )
    assert Dataset.open(tmp_path / "set").frames == 60


def test_a_recorders_clock_that_is_set_back_does_not_end_the_episode(tmp_path):
    sent = Arm(commands=False).messages()
    late = [
        Sent(
            one.topic,
            one.received - (20 * SECOND if one.received > BEGIN + 2 * SECOND else 0),
            one.message,
        )
        for one in sent
    ]
    source = write_mcap(tmp_path / "run.mcap", late)
    result = run("convert", source, tmp_path / "set", "--robot", "sim_arm", "--task", "t")
    assert result.exit_code == 0, result.output
    assert "the recorder's clock went back 1 times" in result.output
    assert [e.length for e in Dataset.open(tmp_path / "set").episodes] == [61]


def test_without_commands_the_next_state_is_the_action(tmp_path):
    source = write_mcap(tmp_path / "run.mcap", Arm(commands=False).messages())
    result = run("convert", source, tmp_path / "set", "--robot", "sim_arm", "--task", "t")
    assert "all actions: taken from the state one frame later" in result.output
    numbers = Dataset.open(tmp_path / "set").numbers(0)
    np.testing.assert_array_equal(numbers["action"][:-1], numbers["observation.state"][1:])
    np.testing.assert_array_equal(numbers["action"][-1], numbers["observation.state"][-1])
    options = ("--robot", "sim_arm", "--task", "t", "--actions", "commanded")
    result = run("convert", source, tmp_path / "other", *options)
    assert result.exit_code == 1
    assert "run.mcap: lacks command:shoulder_pan; it has" in result.output
    assert not (tmp_path / "other").exists()


def test_a_person_takes_over(tmp_path):
    arm = Arm(seconds=8, interventions=((2.0, 4.0), (6.0, 6.4)))
    source = write_mcap(tmp_path / "run.mcap", arm.messages())
    data = convert(source, tmp_path / "all", "--task", "t")
    flags = data.numbers(0)["intervention"][:, 0]
    assert flags.sum() == 30 + 6
    only = convert(source, tmp_path / "only", "--task", "t", "--only-interventions")
    assert [e.length for e in only.episodes] == [30]
    assert only.numbers(0)["observation.state"][0, 0] == pytest.approx(2.0, abs=0.07)
    plain = write_mcap(tmp_path / "plain.mcap", Arm().messages())
    options = ("--robot", "sim_arm", "--task", "t", "--only-interventions")
    result = run("convert", plain, tmp_path / "none", *options)
    assert "plain.mcap: says nothing of interventions" in result.output


def test_the_prompt_of_each_frame_is_its_task(tmp_path):
    arm = Arm(prompts=((0.0, "pick"), (2.0, "place")))
    source = write_mcap(tmp_path / "run.mcap", arm.messages())
    data = convert(source, tmp_path / "set")
    assert data.tasks == ("pick", "place")
    assert data.prompts(0)[:30] == ("pick",) * 30
    assert data.prompts(0)[30:] == ("place",) * 31
    chosen = convert(source, tmp_path / "chosen", "--task", "stack")
    assert chosen.tasks == ("stack",)
    silent = write_mcap(tmp_path / "silent.mcap", Arm().messages())
    result = run("convert", silent, tmp_path / "none", "--robot", "sim_arm")
    assert 'silent.mcap: does not say the task; give it by --task "..."' in result.output


def test_a_killed_recorder_leaves_an_episode(tmp_path):
    source = write_mcap(tmp_path / "run.mcap", Arm().messages(), finish=False)
    result = run("convert", source, tmp_path / "set", "--robot", "sim_arm", "--task", "t")
    assert result.exit_code == 0, result.output
    assert "run.mcap is cut off" in result.output
    assert 50 <= Dataset.open(tmp_path / "set").frames < 61


def test_the_recorders_facts_are_kept(tmp_path):
    facts = {"success": "true", "task": "pick"}
    source = write_mcap(tmp_path / "run.mcap", Arm().messages(), facts)
    data = convert(source, tmp_path / "set")
    assert data.tasks == ("pick",)
    assert data.episodes[0].facts["recorded.success"] is True


def test_only_what_was_marked_as_a_success_is_kept(tmp_path):
    marks = {"done": {"success": "true"}, "failed": {"success": "false"}, "unmarked": {}}
    source = tmp_path / "runs"
    source.mkdir()
    for name, facts in marks.items():
        arm = Arm(seconds=2, prompts=((0.0, name),))
        write_mcap(source / f"{name}.mcap", arm.messages(), facts)
    assert convert(source, tmp_path / "all").tasks == tuple(marks)
    options = ("--robot", "sim_arm", "--only-successes", "--no-lint")
    result = run("convert", source, tmp_path / "set", *options)
    assert result.exit_code == 0, result.output
    assert Dataset.open(tmp_path / "set").tasks == ("done",)
    assert "failed.mcap: left out: it failed" in result.output
    assert "unmarked.mcap: left out: nobody has marked it as a success" in result.output
    copied = run("convert", tmp_path / "all", tmp_path / "copy", "--only-successes", "--no-lint")
    assert copied.exit_code == 0, copied.output
    assert Dataset.open(tmp_path / "copy").tasks == ("done",)


def test_commands_that_hold_and_joints_of_one_message_are_not_reported_line_by_line(tmp_path):
    source = write_mcap(tmp_path / "run.mcap", Arm(seconds=4, silent=(2.0, 2.3)).messages())
    result = run("convert", source, tmp_path / "set", "--robot", "sim_arm", "--task", "t")
    assert result.exit_code == 0, result.output
    assert "observation/scene_image: 30 Hz" in result.output
    assert "command:" not in result.output
    assert sum("frames held" in line for line in result.output.splitlines()) == 1


def three_runs(folder: Path) -> Path:
    folder.mkdir()
    for i in range(3):
        write_mcap(folder / f"run-{i}.mcap", Arm(seconds=2 + i).messages())
    return folder


def test_an_interrupted_conversion_is_resumed(tmp_path, monkeypatch):
    source = three_runs(tmp_path / "runs")
    from openpi_flash_training.dataset import writer

    kept = writer.DatasetWriter.add_episode

    def interrupted(self, *arguments, **options):
        if self.episodes == 2:
            raise KeyboardInterrupt
        return kept(self, *arguments, **options)

    options = ("--robot", "sim_arm", "--task", "t")
    with monkeypatch.context() as patch:
        patch.setattr(writer.DatasetWriter, "add_episode", interrupted)
        assert run("convert", source, tmp_path / "set", *options).exit_code != 0
    result = run("lint", tmp_path / "set")
    assert "is unfinished" in result.output
    assert "2 episodes are whole" in result.output
    result = run("convert", source, tmp_path / "set", *options)
    assert "has an unfinished dataset; resume it" in result.output
    result = run("convert", source, tmp_path / "set", *options, "--resume")
    assert result.exit_code == 0, result.output
    assert [e.length for e in Dataset.open(tmp_path / "set").episodes] == [31, 46, 61]


def test_append_checks_that_features_agree(tmp_path):
    source = three_runs(tmp_path / "runs")
    options = ("--robot", "sim_arm", "--task", "t", "--no-lint")
    assert run("convert", source / "run-0.mcap", tmp_path / "set", *options).exit_code == 0
    result = run("append", source, tmp_path / "set", *options)
    assert result.exit_code == 0, result.output
    assert "run-0.mcap: left out: is in the dataset already" in result.output
    assert len(Dataset.open(tmp_path / "set").episodes) == 3
    other = write_mcap(tmp_path / "other.mcap", Arm().messages())
    result = run("append", other, tmp_path / "set", *options, "--image-size", "64")
    assert result.exit_code == 1
    assert f"other.mcap: has {SCENE} as video [64, 64, 3], the dataset" in result.output
    # what was there is as it was
    assert len(Dataset.open(tmp_path / "set").episodes) == 3


def nan_joints() -> list[Sent]:
    sent = Arm(commands=False).messages()
    joints = [one for one in sent if one.topic == "/joint_states"]
    joints[153].message.position[2] = np.nan
    return sent


def other_size() -> list[Sent]:
    image = raw_image(np.zeros((12, 16, 3), np.uint8), 2_060_000_000)
    extra = [Sent("/scene_camera/image_raw", BEGIN + 2_060_000_000, image)]
    return Arm(extra=extra, scene_hz=10).messages()


def unknown_encoding() -> list[Sent]:
    sent = Arm().messages()
    for one in sent:
        if one.topic == "/scene_camera/image_raw":
            one.message.encoding = "rgbx"
    return sent


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (nan_joints, r"run.mcap: observation.state \[elbow\] is nan at frame 23"),
        (other_size, r"run.mcap: /scene_camera/image_raw, image 21 is \(12, 16, 3\)"),
        (unknown_encoding, r"run.mcap: /scene_camera/image_raw, image 0: .*rgbx"),
        (
            lambda: [one for one in Arm().messages() if "scene" not in one.topic],
            "run.mcap: lacks the camera observation/scene_image",
        ),
        (
            lambda: [one for one in Arm().messages() if one.topic != "/joint_states"],
            "run.mcap: lacks position:shoulder_pan",
        ),
        (lambda: Arm(seconds=0.4).messages(), "run.mcap.*gives no episode: it has 7 frames"),
    ],
)
def test_a_recording_that_cannot_be_used_is_named(tmp_path, messages, message):
    source = tmp_path / "runs"
    source.mkdir()
    write_mcap(source / "run.mcap", messages())
    options = ("--robot", "sim_arm", "--task", "t", "--no-lint")
    result = run("convert", source, tmp_path / "set", *options)
    assert result.exit_code == 1
    assert re.search(message, result.output), result.output
    write_mcap(source / "good.mcap", Arm().messages())
    result = run("convert", source, tmp_path / "other", *options, "--skip-bad")
    assert result.exit_code == 0, result.output
    assert re.search(message.replace("run.mcap: ", "run.mcap: left out: "), result.output)
    assert len(Dataset.open(tmp_path / "other").episodes) == 1


def test_what_is_no_recording_is_named(tmp_path):
    options = ("--robot", "sim_arm")
    (tmp_path / "text.mcap").write_text("no recording")
    result = run("convert", tmp_path / "text.mcap", tmp_path / "set", *options)
    assert "text.mcap: is not an MCAP file" in result.output
    (tmp_path / "empty").mkdir()
    result = run("convert", tmp_path / "empty", tmp_path / "set", *options)
    assert "empty: holds no recording" in result.output
    result = run("convert", tmp_path / "missing", tmp_path / "set", *options)
    assert "missing: is missing" in result.output
    bag = write_bag(tmp_path / "bag", Arm(seconds=1).messages(), mcap=False)
    (bag / "metadata.yaml").unlink()
    result = run("convert", bag, tmp_path / "set", *options)
    assert "has no metadata.yaml, its recorder was killed: run `ros2 bag reindex`" in result.output
    assert not (tmp_path / "set").exists()


def test_a_damaged_message_is_named(tmp_path):
    sent = Arm(seconds=1).messages()
    serialize = STORE.serialize_cdr

    def cut(message, kind):
        return (
            serialize(message, kind)[:20]
            if kind.endswith("JointState")
            else serialize(message, kind)
        )

    source = tmp_path / "run.mcap"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(STORE, "serialize_cdr", cut)
        write_mcap(source, sent)
    result = run("convert", source, tmp_path / "set", "--robot", "sim_arm")
    assert result.exit_code == 1
    assert "/joint_states has a message that is no sensor_msgs/msg/JointState" in result.output


CONFIGS = sorted(set(NODE_FILE.parent.glob("*.yaml")) - {NODE_FILE.parent / "template.yaml"})


@pytest.mark.parametrize("node_file", CONFIGS, ids=lambda path: path.stem)
def test_every_robots_node_file_says_what_to_read(node_file):
    from openpi_flash_models.robots import ROBOTS
    from openpi_flash_training.recordings.ros_inputs import inputs_by_node_file

    robot = ROBOTS[node_file.stem]
    inputs = inputs_by_node_file(node_file, robot)
    assert len(inputs.state) == sum(part.size for part in robot.state)
    assert len(inputs.actions) == len(robot.actions)
    assert inputs.commands


def test_a_bases_velocity_and_an_end_effectors_steps_are_read(tmp_path):
    """Rates are what was commanded; steps are the rate times a frame."""
    from bags import header

    from openpi_flash_models.robots import ROBOTS
    from openpi_flash_robot.settings.axis_play import Reading
    from openpi_flash_training.conversion.convert import ConvertOptions, convert
    from openpi_flash_training.conversion.robot_columns import robot_plan
    from openpi_flash_training.episodes.resample import ResampleRule
    from openpi_flash_training.recordings.messages import open_messages
    from openpi_flash_training.recordings.ros_episode import read_ros_episode
    from openpi_flash_training.recordings.ros_inputs import (
        ActionSource,
        CommandTopic,
        inputs_by_name,
    )

    twist, vector = (STORE.types[f"geometry_msgs/msg/{name}"] for name in ("Twist", "Vector3"))
    stamped = STORE.types["geometry_msgs/msg/TwistStamped"]
    sent = Arm(commands=False).messages()
    TYPES["/cmd_vel"] = "geometry_msgs/msg/TwistStamped"
    for t in range(0, 4 * SECOND, SECOND // 20):
        message = stamped(
            header=header(t),
            twist=twist(linear=vector(x=1.5, y=2.0, z=9.0), angular=vector(x=9.0, y=9.0, z=3.0)),
        )
        sent.append(Sent("/cmd_vel", BEGIN + t, message))
    source = write_mcap(tmp_path / "run.mcap", sorted(sent, key=lambda one: one.received))
    robot = ROBOTS["sim_arm"]
    file = open_messages(source)
    inputs = inputs_by_name(source, robot, file.types, {})
    readings = [Reading.PER_SECOND, Reading.PER_SECOND, Reading.PER_STEP]
    bases = [ActionSource(n, 0.5, reading=r) for n, r in zip("xyw", readings, strict=True)]
    inputs = replace(
        inputs,
        commands=(CommandTopic("/cmd_vel", ("x", "y", "w"), are_rates=True, parts=(0, 1, 5)),),
        actions=(*bases, *inputs.actions[3:]),
    )
    options = ConvertOptions(ResampleRule(10), task="t", as_video=False)
    plan = lambda episode: robot_plan(  # noqa: E731
        episode, robot, inputs, commanded=None, image_size=None
    )
    reports = convert([lambda: read_ros_episode(file, inputs)], plan, tmp_path / "set", options)
    assert [len(report.lengths) for report in reports] == [1]
    actions = Dataset.open(tmp_path / "set").numbers(0)["action"]
    np.testing.assert_allclose(actions[:, :3], [[3.0, 4.0, 0.6]] * len(actions), rtol=1e-6)


def test_a_controller_of_velocities_that_was_commanded_none_is_named(tmp_path):
    node_file = tmp_path / "robot.yaml"
    arm = "      arm_controller:\n"
    node_file.write_text(NODE_FILE.read_text().replace(arm, f"{arm}        kind: velocity\n"))
    source = write_mcap(tmp_path / "run.mcap", Arm().messages())
    options = ("--robot", "sim_arm", "--task", "t", "--node-file", node_file)
    result = run("convert", source, tmp_path / "set", *options)
    assert result.exit_code == 1
    assert (
        "run.mcap: /arm_controller/joint_trajectory has a trajectory with 0 velocities for 7 joints"
    ) in result.output


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        (
            "observation/wrst_image=/wrist_camera/image_raw/compressed",
            "the robot sim_arm has no observation/wrst_image; known are observation/scene_image, "
            "observation/wrist_image, prompt, subtask, intervention",
        ),
        ("prompt=/prompts", "lacks the topic /prompts of --topic prompt=/prompts; it has /arm_con"),
        (
            "observation/wrist_image=/hand",
            "lacks the topic /hand of --topic observation/wrist_image=/hand; it has /arm_con",
        ),
    ],
)
@pytest.mark.parametrize("by", [(), ("--node-file", NODE_FILE)], ids=["by name", "by file"])
def test_a_topic_that_is_not_there_is_refused(tmp_path, topic, message, by):
    source = write_mcap(tmp_path / "run.mcap", Arm(seconds=2).messages())
    options = ("--robot", "sim_arm", "--task", "t", "--topic", topic, *by)
    result = run("convert", source, tmp_path / "set", *options)
    assert result.exit_code != 0
    assert message in re.sub(r"[\s│]+", " ", result.output)
    assert not (tmp_path / "set").exists()


def test_a_camera_that_the_robot_may_lack_is_left_out(tmp_path, monkeypatch):
    from openpi_flash_models import robots

    robot = robots.ROBOTS["sim_arm"]
    scene, wrist = robot.cameras
    monkeypatch.setitem(
        robots.ROBOTS,
        "sim_arm",
        replace(robot, cameras=(scene, replace(wrist, required=False))),
    )
    sent = [one for one in Arm().messages() if "wrist" not in one.topic]
    source = write_mcap(tmp_path / "run.mcap", sent)
    for name, options in (("named", ()), ("node", ("--node-file", NODE_FILE))):
        data = convert(source, tmp_path / name, "--task", "t", *options)
        assert data.cameras == (SCENE,)
