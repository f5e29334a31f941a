"""What the robots say of their numbers agrees with what they read and hold."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from openpi_flash_models.actions.malformed import held_actions
from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.errors import InferenceConfigError, ObservationError
from openpi_flash_models.model.shape import named_shape
from openpi_flash_models.policy.action_policy import ModelPolicy
from openpi_flash_models.policy.flow_actions import FlowActions
from openpi_flash_models.robots import ROBOTS, get_robot
from openpi_flash_models.robots.action_column import ActionColumn, base_twist, joints
from openpi_flash_models.robots.robot import Robot
from openpi_flash_models.robots.robot_input import CameraInput, StateInput
from openpi_flash_models.robots.table import table
from openpi_flash_models.robots.vocabulary import ROTATION_SIZES
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer
from openpi_flash_models.transforms.norm_stats import FieldStats, NormStats

PAGE = Path(__file__).parents[3] / "docs" / "robots.md"
EVERY_ROBOT = pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)
UNITS = {
    "position": {"rad", "m"},
    "velocity": {"rad/s", "m/s", "1"},
    "gripper": {"1", "m", "rad"},
    "eef_delta": {"m", "rad", "1"},
    "base_twist": {"m/s", "rad/s"},
}


class Watched(dict):
    """An observation that remembers which of its arrays were read."""

    def __init__(self, content, seen, path=()):
        super().__init__()
        self._seen, self._path = seen, path
        for key, value in content.items():
            inner = isinstance(value, dict)
            self[key] = Watched(value, seen, (*path, key)) if inner else value

    def get(self, key, default=None):
        if not isinstance(super().get(key), dict):
            self._seen.add((*self._path, key))
        return super().get(key, default)


def numbers_of(robot):
    """Name and unit of each number of the state."""
    return [pair for part in robot.state for pair in zip(part.names, part.units, strict=True)]


@EVERY_ROBOT
def test_the_inputs_are_what_the_robot_reads(robot):
    seen = set()
    observation = Watched(robot.example_observation(), seen)
    robot.read_images(observation)
    robot.read_state(observation)
    assert {given.path for given in robot.inputs if given.kind != "text"} == seen
    assert [given.path for given in robot.inputs if given.kind == "text"] == [("prompt",)]
    assert len({given.path for given in robot.inputs}) == len(robot.inputs)


@EVERY_ROBOT
def test_the_shapes_of_the_inputs_are_those_of_the_example(robot):
    for given in robot.inputs:
        value = robot.example_observation()
        for key in given.path:
            value = value[key]
        assert np.shape(value) == given.shape


@EVERY_ROBOT
def test_a_request_without_a_required_input_is_refused_and_without_another_is_not(robot):
    for given in robot.inputs:
        if given.kind == "text":
            continue
        observation = branch = robot.example_observation()
        for key in given.path[:-1]:
            branch = branch[key]
        del branch[given.path[-1]]

        def read(observation=observation):
            return robot.read_images(observation), robot.read_state(observation)

        if given.required:
            with pytest.raises(ObservationError, match="/".join(given.path)):
                read()
        else:
            read()


@EVERY_ROBOT
def test_every_number_of_the_state_has_a_name_and_a_unit(robot):
    names = [name for name, _ in numbers_of(robot)]
    assert len(names) == sum(part.size for part in robot.state)
    assert len(set(names)) == len(names)
    for part in robot.state:
        cartesian = part.kind != "joints"
        assert bool(part.frame) == cartesian, "Cartesian numbers have a frame, joints have none"
        if part.rotation:
            assert part.size >= 3 + ROTATION_SIZES[part.rotation]


@EVERY_ROBOT
def test_the_unit_of_every_action_belongs_to_its_interface(robot):
    for action in robot.actions:
        assert action.unit in UNITS[action.interface], action
        cartesian = action.interface in ("eef_pose", "eef_delta", "base_twist")
        assert bool(action.frame) == cartesian, action
        assert (action.closed is not None) == (action.interface == "gripper"), action


@EVERY_ROBOT
def test_a_rotation_has_as_many_numbers_as_its_convention(robot):
    moves = [action for action in robot.actions if action.interface in ("eef_pose", "eef_delta")]
    for convention, group in itertools.groupby(moves, key=lambda action: action.rotation):
        numbers = list(group)
        assert len(numbers) == (ROTATION_SIZES[convention] if convention else 3)
        assert convention or all(action.unit != "rad" for action in numbers)
    assert bool(moves) == any(action.rotation for action in robot.actions)


@EVERY_ROBOT
def test_hold_repeats_the_number_of_the_same_name_and_unit(robot):
    state = np.arange(1.0, len(numbers_of(robot)) + 1)
    by_name = {
        name: (value, unit) for (name, unit), value in zip(numbers_of(robot), state, strict=True)
    }
    held = held_actions(robot, state, 2)
    assert held.shape == (2, len(robot.actions))
    for action, value in zip(robot.actions, held[1], strict=True):
        if action.stays_at_zero:
            assert value == 0, action
        else:
            assert (value, action.unit) == by_name[action.name], action


@EVERY_ROBOT
def test_actions_to_model_undoes_actions_to_robot(robot):
    actions = np.random.default_rng(3).normal(0, 1, (5, len(robot.actions)))
    np.testing.assert_allclose(robot.actions_to_model(robot.actions_to_robot(actions)), actions)


class Noise:
    """A model whose actions are its noise."""

    prepares_rtc = False
    prepares_other_steps = False
    token_buckets = None
    shape = named_shape("pi05")

    def sample(self, inputs, noise, num_steps, guidance):
        return noise


def policy_of(robot, data, default_prompt=None):
    sizes = sum(part.size for part in robot.state), len(robot.actions)
    unscaled = [
        FieldStats(np.zeros(n), np.ones(n), np.full(n, -1.0), np.full(n, 1.0)) for n in sizes
    ]
    config = InferenceConfig("mine", robot, "mine", 10)
    return ModelPolicy(
        config,
        FlowActions(Noise(), config),
        NormStats(*unscaled),
        PaligemmaTokenizer(data / "paligemma_tokenizer.model"),
        default_prompt,
    )


@EVERY_ROBOT
def test_a_policy_answers_the_example_and_says_what_its_numbers_are(robot, data):
    policy = policy_of(robot, data)
    actions = policy.infer(robot.example_observation()).actions
    assert actions.shape == (10, len(robot.actions))
    assert np.isfinite(actions).all()
    assert policy.spec.actions == robot.actions
    assert policy.spec.inputs == robot.inputs


def test_the_prompt_is_not_required_where_the_server_has_one(data):
    robot = get_robot("so101")
    required = {
        default: policy_of(robot, data, default).spec.inputs[-1].required
        for default in (None, " ", "pick up the cup")
    }
    assert required == {None: True, " ": True, "pick up the cup": False}


def test_so101_is_commanded_in_radians_and_its_model_counts_degrees():
    robot = get_robot("so101")
    state = robot.read_state(
        robot.example_observation() | {"observation/state": [np.pi, np.pi / 2, 0, 0, -np.pi, 0.25]}
    )
    assert state == pytest.approx([180, 90, 0, 0, -180, 25])
    actions = robot.actions_to_robot(np.array([[180.0, 90, 0, 0, -180, 25]]))
    assert actions[0] == pytest.approx([np.pi, np.pi / 2, 0, 0, -np.pi, 0.25])


@pytest.mark.parametrize(("name", "arm", "torso"), [("r1_lite", 6, 3), ("r1_pro", 7, 4)])
def test_galaxeas_grippers_are_shares_and_its_models_count_to_100(name, arm, torso):
    robot = get_robot(name)
    assert len(robot.actions) == 2 * (arm + 1) + torso + 3
    observation = robot.example_observation()
    observation["observation/left_gripper"] = [0.5]
    observation["observation/right_arm"] = np.ones(arm)
    state = robot.read_state(observation)
    assert state.tolist() == [*[0.0] * arm, 50, *[1.0] * arm, *[0.0] * (1 + torso)]
    actions = robot.actions_to_robot(np.full((1, len(robot.actions)), 10.0))
    shares = {a.name: v for a, v in zip(robot.actions, actions[0], strict=True) if v != 10}
    assert shares == pytest.approx({"left_gripper": 0.1, "right_gripper": 0.1})


def test_the_page_has_the_table_of_these_robots():
    assert table(ROBOTS.values()) in PAGE.read_text(), (
        "run: python -m openpi_flash_models.robots.table, and put it into docs/robots.md"
    )


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"interface": "speed"}, "action a: interface is 'speed', expected one of position, vel"),
        ({"interface": "velocity"}, "unit of velocity is 'rad', expected one of rad/s, m/s, 1"),
        ({"unit": "deg"}, "action a: unit of position is 'deg', expected one of rad, m, 1"),
        ({"reference": "state"}, "reference is 'state', expected one of absolute, observed_state"),
        ({"interface": "eef_pose", "rotation": "quat"}, "rotation is 'quat', expected one of rpy"),
        ({"rotation": "rpy"}, "rotation is 'rpy', which only eef_pose and eef_delta have"),
        ({"closed": 0.0, "open": 1.0}, "closed and open are for grippers, its interface is pos"),
        (
            {"interface": "gripper", "closed": 1.0},
            "closed is 1.0 and open is None, expected two different numbers",
        ),
        ({"interface": "gripper", "closed": 1.0, "open": 1.0}, "expected two different numbers"),
    ],
)
def test_an_action_that_contradicts_itself_is_refused(values, problem):
    with pytest.raises(InferenceConfigError, match=problem):
        ActionColumn("a", **values)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"kind": "image"}, "state arm/q: kind is 'image', expected one of joints, pose, vector"),
        ({"names": ("a", "b")}, "state arm/q: 2 names for 7 numbers, expected one for each"),
        ({"names": tuple("abcdeff")}, "state arm/q: two numbers are named f"),
        ({"unit": ("m",) * 6}, "state arm/q: 6 units for 7 numbers, expected one for each"),
        ({"unit": "deg"}, "state arm/q: unit is 'deg', expected one of rad, m, rad/s"),
        ({"rotation": "euler"}, "rotation is 'euler', expected one of rpy, rotvec, quat_xyzw"),
        ({"kind": "pose", "rotation": "quat_xyzw"}, "frame is missing, a pose needs it"),
        ({"kind": "pose", "frame": "base_link"}, "rotation is missing, a pose needs it"),
        (
            {"kind": "pose", "frame": "base_link", "rotation": "rpy"},
            "size is 7, a pose with rpy has 6",
        ),
    ],
)
def test_a_state_that_contradicts_itself_is_refused(values, problem):
    with pytest.raises(InferenceConfigError, match=problem):
        StateInput(("arm", "q"), 7, **values)


def arm(**values):
    return Robot(
        **{
            "name": "mine",
            "cameras": (),
            "state": (StateInput("q", 2, unit=("rad", "m")),),
            "actions": joints("a", "b"),
            "control_hz": 10.0,
            **values,
        }
    )


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"actions": joints("a", "a")}, "robot mine: two actions are named a"),
        ({"hold": (0, None)}, "hold has nothing for b, which zero would move; name the number"),
        ({"hold": (0, 1)}, "hold names number 1 of the state, in m, for b, in rad"),
        ({"hold": (0, 2)}, "hold names number 2 of the state, expected 0 to 1, or nothing"),
        ({"hold": (0,)}, "hold has 1 entries, expected one for each of the 2 actions"),
        (
            {"actions": base_twist(), "hold": (None, 1, None)},
            "hold names number 1 of the state for vy, which zero holds",
        ),
    ],
)
def test_a_hold_that_would_move_the_robot_is_refused(values, problem):
    with pytest.raises(InferenceConfigError, match=problem):
        arm(**values)


def test_a_state_beside_the_cameras_of_a_group_is_no_unknown_camera():
    robot = arm(
        cameras=(CameraInput(("observation", "image"), "base_0_rgb"),),
        state=(StateInput(("observation", "arm", "q"), 2),),
    )
    observation = robot.example_observation()
    assert set(robot.read_images(observation)) == {"base_0_rgb"}
    assert robot.read_state(observation).tolist() == [0, 0]
    observation["observation"]["imgae"] = observation["observation"]["image"]
    with pytest.raises(ObservationError, match="observation/imgae: no such camera, known: image"):
        robot.read_images(observation)
