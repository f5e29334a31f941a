"""A user's own robots: the examples of docs/robots.md, and what is wrong with a file."""

import re
from pathlib import Path

import numpy as np
import pytest

from openpi_flash_models import robots
from openpi_flash_models.config import named_configs, robot_file
from openpi_flash_models.config.robot_file import (
    add_robot_file,
    added_robot_files,
    read_robot_file,
)
from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.robots.linear import Linear

PAGE = Path(__file__).parents[3] / "docs" / "robots.md"


def example(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]


@pytest.fixture
def write(tmp_path):
    def write(content, name="my_arm.yaml"):
        file = tmp_path / name
        file.write_text(content)
        return file

    return write


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """What a test adds is gone after it."""
    monkeypatch.setattr(robots, "ROBOTS", dict(robots.ROBOTS))
    monkeypatch.setattr(named_configs, "CONFIGS", dict(named_configs.CONFIGS))
    monkeypatch.setattr(robot_file, "_added", {})


def test_the_yaml_of_the_page_is_a_robot_that_reads_its_observation(write):
    add_robot_file(write(example("yaml")))
    config = named_configs.get_config("pi05_my_arm")
    robot = config.robot
    assert robots.get_robot("my_arm") is robot
    assert (config.kind, config.asset_id, config.action_horizon) == ("pi05", "my_arm", 50)
    assert config.delta_mask == (True,) * 6 + (False,)
    assert (config.default_prompt, config.max_token_len) == ("pick up the cup", 200)
    observation = robot.example_observation("wave")
    assert observation["images"]["wrist"].shape == (3, 224, 224)
    observation["observation/joints"] = np.arange(1.0, 7.0)
    observation["observation/gripper"] = np.array([0.04])
    assert robot.read_state(observation).tolist() == [1, -2, 3, 4, 5, 6, 0.5]
    assert set(robot.read_images(observation)) == {"base_0_rgb", "left_wrist_0_rgb"}
    del observation["images"]
    assert set(robot.read_images(observation)) == {"base_0_rgb"}
    assert robot.hold == tuple(range(7))
    arm, hand = robot.inputs[2:4]
    assert (arm.kind, arm.names[0], arm.units) == ("joints", "base", ("rad",) * 6)
    assert (hand.path, hand.units) == (("observation/gripper",), ("m",))
    assert (robot.actions[6].closed, robot.actions[6].open) == (0, 0.08)
    assert config.normalization == "auto"
    actions = robot.actions_to_robot(np.ones((2, 7)))
    assert actions.tolist() == [[1, -1, 1, 1, 1, 1, 0.08]] * 2
    assert robot.actions_to_model(actions).tolist() == [[1.0] * 7] * 2


def test_the_yaml_may_say_how_numbers_are_scaled_and_which_actions_are_velocities(write):
    text = edited("hold: [0, 1, 2", "hold: [null, null, 2")
    for name in ("base", "shoulder"):
        velocity = f"- {{name: {name}, interface: velocity, unit: rad/s}}"
        text = text.replace(f"      - {name}\n", f"      {velocity}\n")
    add_robot_file(write(text.replace("delta: [6, -1]", "normalization: mean_std")))
    config = named_configs.get_config("pi05_my_arm")
    assert config.normalization == "mean_std"
    assert config.robot.hold == (None, None, 2, 3, 4, 5, 6)


def test_the_python_of_the_page_is_a_robot_with_a_formula(write):
    add_robot_file(write(example("python"), "my_arm.py"))
    robot = named_configs.get_config("pi05_my_other_arm").robot
    state = robot.read_state({"observation/state": np.array([0, 0, 0, 0, 0, 0, 0.11])})
    assert state[-1] == pytest.approx(np.pi / 2)


def test_the_yaml_may_say_rotations_and_a_path_of_keys(write):
    text = edited(
        "      - {key: observation/gripper,",
        "      - {key: [observation, eef], size: 7, kind: pose, names: [x, y, z, qx, qy, qz, qw], "
        "unit: [m, m, m, '1', '1', '1', '1'], frame: base_link, rotation: quat_xyzw}\n"
        "      - {key: observation/gripper,",
    )
    text = text.replace("    state_to_model:", "    # state_to_model:").replace("hold:", "# hold:")
    twist = "- {name: rx, interface: eef_delta, unit: rad, frame: base_link, rotation: rotvec}"
    (robot,) = read_robot_file(write(text.replace("- base\n", f"{twist}\n"))).robots
    pose = robot.inputs[3]
    assert (pose.path, pose.rotation) == (("observation", "eef"), "quat_xyzw")
    assert robot.actions[0].rotation == "rotvec"
    assert robot.example_observation()["observation"]["eef"].shape == (7,)


def test_the_page_shows_a_config_for_a_robot_of_ours(write):
    (config,) = read_robot_file(write(example("yaml config"))).configs
    assert (config.robot.name, config.delta_mask) == ("so101", (True,) * 5 + (False,))


def test_every_robot_and_config_is_on_the_page():
    text = PAGE.read_text()
    # other tests may have added files of their own
    added = [add_robot_file(path) for path in added_robot_files()]
    theirs = {one.name for file in added for one in (*file.robots, *file.configs)}
    for name in {*robots.ROBOTS, *named_configs.CONFIGS} - theirs:
        assert f"`{name}`" in text, name


def test_a_file_is_added_once(write):
    file = write(example("yaml"))
    assert add_robot_file(file) is add_robot_file(file)
    assert len(named_configs.CONFIGS) == len(
        {config.name for config in named_configs.CONFIGS.values()}
    )


def test_a_file_may_hold_a_config_for_a_robot_of_ours(write):
    add_robot_file(
        write(
            "configs: [{name: mine, robot: droid, model: pi0_fast, asset_id: droid, "
            "action_horizon: 8, blank_cameras_seen: true}]"
        )
    )
    config = named_configs.get_config("mine")
    assert (config.action_dim, config.max_token_len, config.robot.name) == (8, 250, "droid")


def test_a_config_says_that_its_checkpoint_was_trained_with_known_first_actions(write):
    entry = "{name: %s, robot: droid, model: pi05, asset_id: droid, action_horizon: 8%s}"
    both = f"{entry % ('told', ', trained_with_prefix: true')}, {entry % ('untold', '')}"
    add_robot_file(write(f"configs: [{both}]"))
    assert named_configs.get_config("told").trained_with_prefix
    assert not named_configs.get_config("untold").trained_with_prefix


def edited(old, new):
    text = example("yaml")
    assert old in text
    return text.replace(old, new, 1)


def test_a_scale_that_is_too_small_for_its_inverse_has_none():
    smallest = np.nextafter(0.0, 1.0)
    for scale, offset in ((smallest, 0.0), (1e-300, 1e300)):
        assert Linear(np.array([1.0, scale]), np.array([0.0, offset])).inverse is None


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "control_hz: 20",
            "control_hz: fast",
            r"robots\[0\].control_hz: is 'fast', expected a number",
        ),
        ("control_hz: 20", "control_hz: 0", r"robots\[0\].control_hz: is 0, expected more than 0"),
        ("control_hz: 20", "control_hz: .inf", r"control_hz: is inf, expected a finite number"),
        ("control_hz: 20", f"control_hz: {10**400}", r"control_hz: is 10{54,} \.\.\., expected a"),
        ("control_hz: 20", "control: 20", r"robots\[0\]: unknown key 'control', known: actions"),
        ("size: 6", "size: 0", r"robots\[0\].state\[0\].size: is 0, expected at least 1"),
        ("size: 6", f"size: {10**200}", r"state\[0\].size: is 100.* \.\.\., expected at most 4096"),
        ("size: 6", "size: six", r"state\[0\].size: is 'six', expected a whole number"),
        ("key: observation/joints", "key: 3", r"state\[0\].key: is 3, expected a text"),
        ("delta: [6, -1]", f"delta: [6, -{10**10}]", r"delta: expected counts such as \[6, -1\]"),
        ("delta: [6, -1]", f"delta: {'6' * 80}", r"delta: expected a list, got 6{56} \.\.\."),
        (
            "size: 6",
            "siez: 6",
            r"robots\[0\].state\[0\]: unknown key 'siez', known: frame, key, kind",
        ),
        ("kind: joints", "kind: joint", r"state\[0\]: state observation/joints: kind is 'joint'"),
        ("unit: rad", "unit: deg", r"robots\[0\]\.state\[0\]: .*unit is 'deg', expected one of"),
        ("unit: rad", "unit: [rad, m]", r"state\[0\]: .*2 units for 6 numbers, expected one"),
        ("unit: rad", "unit: 3", r"state\[0\].unit: expected a list, got 3"),
        ("unit: rad", "unit: [1]", r"state\[0\].unit: expected texts, got 1"),
        ("names: [base, ", "names: [", r"state\[0\]: .*5 names for 6 numbers, expected one"),
        ("names: [gripper]", "names: gripper", r"state\[1\].names: expected a list, got 'grip"),
        ("unit: rad", "rotation: 3", r"state\[0\].rotation: is 3, expected a text"),
        ("kind: joints\n", "kind: pose\n", r"state\[0\]: .*frame is missing, a pose needs it"),
        ("key: observation/joints", "key: []", r"state\[0\].key: has no keys, expected at least"),
        ("closed: 0", "closed: shut", r"actions\[6\].closed: is 'shut', expected a number"),
        (", open: 0.08", "", r"actions\[6\]: .*closed is 0 and open is None, expected two"),
        ("      - elbow\n", "      - shoulder\n", "my_arm: two actions are named shoulder"),
        ("layout: chw", "layout: hcw", r"cameras\[1\].layout: is 'hcw', expected hwc or chw"),
        ("slot: left_wrist_0_rgb", "slot: base_0_rgb", r"cameras: two cameras fill base_0_rgb"),
        ("slot: left_wrist_0_rgb", "slot: tail", r"the model has no camera tail"),
        ("required: false", "required: 'no'", r"required: is 'no', expected true or false"),
        ("1, 1, 12.5]", "1, 1]", r"state_to_model.scale: expected 7 numbers, got"),
        ("model: pi05", "model: pi5", r"configs\[0\].model: is 'pi5', expected one of pi0, pi05"),
        (
            "robot: my_arm",
            "robot: r2d2",
            r"configs\[0\].robot: is 'r2d2', known: aloha, .*, my_arm",
        ),
        ("action_horizon: 50", "action_horizon: 0", r"action_horizon is 0, expected at least 1"),
        ("action_horizon: 50", "horizon: 50", r"configs\[0\]: unknown key 'horizon'"),
        ("delta: [6, -1]", "delta: [6, -2]", r"delta covers 8 dimensions, the robot my_arm has 7"),
        ("delta: [6, -1]", "delta: 6", r"configs\[0\].delta: expected a list, got 6"),
        ("asset_id: my_arm  ", "# ", r"configs\[0\]: asset_id is missing"),
        ("name: pi05_my_arm", "name: pi05_droid", "a config named 'pi05_droid' already"),
        ("hold: [0, 1", "hold: [0", r"robots\[0\]: robot my_arm: hold has 6 entries, expected"),
        ("5, 6]", "5, 7]", "robot my_arm: hold names number 7 of the state, expected 0 to 6"),
        ("hold: [0, 1", "hold: [0, null", "hold has nothing for shoulder, which zero would move"),
        ("5, 6]", "5, 5]", "hold names number 5 of the state, in rad, for gripper, in m"),
        ("hold: [0, 1", "hold: [0, 1.5", r"hold: expected whole numbers and null, got \[0, 1.5"),
        ("hold: [0, 1", "hold: [0, yes", r"hold: expected whole numbers and null, got \[0, True"),
        (
            "delta: [6, -1]",
            "normalization: max",
            "normalization is 'max', expected one of auto, quantile, mean_std",
        ),
        ("robots:", "robot:", "the file: unknown key 'robot', known: configs, robots"),
        ("robots:", "robots: [", r"is not YAML: line \d+, column \d+: .+$"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(old, new, problem, write):
    with pytest.raises(InferenceConfigError, match=problem) as caught:
        add_robot_file(write(edited(old, new)))
    assert "my_arm.yaml" in str(caught.value)
    assert "my_arm" not in robots.ROBOTS, "half a file is not added"


def test_the_name_of_a_robot_is_given_once(write):
    taken = (
        example("yaml")
        .replace("name: my_arm", "name: aloha")
        .replace("robot: my_arm", "robot: aloha")
    )
    with pytest.raises(
        InferenceConfigError, match=r"my_arm.yaml: there is a robot named 'aloha' already"
    ):
        add_robot_file(write(taken))
    twice = example("yaml").replace(
        "configs:", example("yaml").split("configs:")[0][8:] + "configs:"
    )
    with pytest.raises(
        InferenceConfigError, match=r"robots\[1\]: there is a robot named 'my_arm' already"
    ):
        add_robot_file(write(twice))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.yaml", "", "the file: expected keys and values, got nothing"),
        ("a.yaml", "[]", "the file: expected keys and values, got "),
        ("a.yaml", "{}", "a.yaml defines neither robots nor configs"),
        ("a.yaml", "robots: 3", "robots: expected a list, got 3"),
        ("a.py", "", "a.py defines neither ROBOTS nor CONFIGS"),
        ("a.py", "1 / 0", "a.py cannot be run: ZeroDivisionError"),
        ("a.py", "\nROBOTS = [", r"a.py cannot be run: line 2: '\[' was never closed"),
        ("a.py", "ROBOTS = ['droid']", "expected values of type Robot, got str"),
    ],
)
def test_a_file_that_defines_nothing_is_named(name, content, problem, write):
    with pytest.raises(InferenceConfigError, match=problem):
        read_robot_file(write(content, name))


@pytest.mark.parametrize("name", ["none.yaml", "none.py"])
def test_a_missing_file_is_named(name, tmp_path):
    with pytest.raises(InferenceConfigError, match=f"cannot read .*{name}: "):
        add_robot_file(tmp_path / name)
