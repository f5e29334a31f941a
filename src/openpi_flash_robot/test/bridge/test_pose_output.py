"""An end effector that is commanded by poses: agreement, start, limits, hold, and a dead node."""

import dataclasses

import numpy as np
import pytest
from pose_world import (
    COLUMNS,
    DOWN,
    METADATA,
    PARAMETERS,
    PUSH,
    SPEED,
    TURNING,
    TWIST,
    PoseWorld,
    actions_metadata,
    as_policy,
    lengths,
    turning,
)

from openpi_flash_robot.bridge.effects import PublishChunk, PublishTrajectory
from openpi_flash_robot.bridge.status import State
from openpi_flash_robot.link.answer import rtc_of
from openpi_flash_robot.play.splice.rtc import Continuation
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.parse_settings import settings_from_parameters
from openpi_flash_robot.settings.server_contract import ContractError, agree, parse_contract
from openpi_flash_robot.settings.state_inputs import Rotation

STEPS = 50


@pytest.fixture
def world():
    world = PoseWorld()
    world.start()
    return world


def way(*changes, start=DOWN, steps=STEPS):
    """A straight way by so much of each axis."""
    return start + np.linspace(0.0, 1.0, steps)[:, np.newaxis] * np.array([*changes, 0.0])


def test_the_hand_goes_where_the_policy_says_in_position_and_rotation(world):
    world.answer(as_policy(way(0.05, 0.02, -0.03, 0.1, 0.1, -0.1)))
    assert world.status.state is State.RUNNING
    world.pass_time(1_000)
    assert lengths((world.pose - DOWN)[np.newaxis, :3])[0] > 0.01
    # on the way: every axis has gone the same share of it
    shares = (world.pose - DOWN)[:6] / [0.05, 0.02, -0.03, 0.1, 0.1, -0.1]
    np.testing.assert_allclose(shares, shares[0], rtol=0.05)
    (chunk,) = [e for e in world.effects if isinstance(e, PublishChunk)][:1]
    assert chunk.description.names == tuple(COLUMNS)
    assert chunk.description.kinds == ("eef_pose",) * 7 + ("gripper",)
    assert chunk.actions.shape == (STEPS, len(COLUMNS))


@pytest.mark.parametrize("seed", range(6))
def test_speed_and_turning_stay_within_their_limits_in_any_direction(seed):
    rng = np.random.default_rng(seed)
    world = PoseWorld()
    world.start()
    for _ in range(12):
        goal = [*rng.uniform(-0.4, 0.4, 3), *rng.uniform(-0.8, 0.8, 3)]
        steps = world.pose + np.linspace(0, 1, STEPS)[:, np.newaxis] ** rng.uniform(0.5, 2) * [
            *goal,
            0.0,
        ]
        world.answer(as_policy(steps), latency_ms=int(rng.integers(2, 10)) * 20)
        world.pass_time(int(rng.integers(5, 40)) * 20)
    world.pass_time(1_500)
    path = np.array(world.references)
    seconds = 0.005
    velocity = np.diff(path[:, :3], axis=0) / seconds
    spin = turning(path[:, 3:6], seconds)
    assert 0.5 * SPEED < lengths(velocity).max() <= SPEED * 1.01
    assert 0.3 * TURNING < lengths(spin).max() <= TURNING * 1.01
    assert lengths(np.diff(velocity, axis=0) / seconds).max() <= PUSH * 1.05
    assert lengths(np.diff(spin, axis=0) / seconds).max() <= TWIST * 1.05
    assert np.all(path[:, :3] >= np.array([0.2, -0.3, 0.05]) - 1e-9)
    assert np.all(path[:, :3] <= np.array([0.7, 0.3, 0.6]) + 1e-9)


def test_it_holds_at_the_commanded_pose_and_says_nothing_more(world):
    world.answer(as_policy(way(0.1, 0.0, 0.0, 0.0, 0.2, 0.0)))
    world.pass_time(400)
    world.bridge.hold(world.now)
    world.collect()
    world.pass_time(1_000)
    stood, told = world.pose, len([e for e in world.effects if isinstance(e, PublishTrajectory)])
    world.pass_time(1_000)
    np.testing.assert_array_equal(world.pose, stood)
    assert len([e for e in world.effects if isinstance(e, PublishTrajectory)]) == told
    assert world.status.message.startswith("held by ~/hold")


def test_a_hand_whose_node_is_gone_stands_within_half_a_second(world):
    world.answer(as_policy(way(0.3, 0.2, 0.1, 0.8, 0.8, 0.8)))
    world.pass_time(600)
    reference = world.controller.reference(world.now)
    assert np.linalg.norm(reference.velocities[:3]) > 0.5 * SPEED
    assert world.kill() <= 0.5


@pytest.mark.parametrize(
    ("change", "axis"),
    [((0, 0, 0.25, 0, 0, 0), ""), ((0.1, 0.28, 0, 0, 0, 0), ""), ((0, 0, 0, 0, 0.6, 0), "ry")],
)
def test_a_chunk_that_starts_away_from_the_measured_pose_is_refused(world, change, axis):
    world.answer(as_policy(way(0, 0, 0, 0, 0, 0, start=DOWN + np.array([*change, 0.0]))))
    if not axis:
        assert world.status.state is State.RUNNING
        return
    assert world.status.state is State.HOLDING
    assert f"away from the measured position of {axis}" in world.status.message


def test_across_half_a_turn_nothing_jumps():
    """The shortest rotation vector is on the other side there; the motion goes on."""
    world = PoseWorld(start=DOWN - np.array([0, 0, 0, 0.05, 0, 0, 0]))
    world.start()
    for _ in range(4):
        here = world.pose
        world.answer(as_policy(way(0, 0, 0, 0.6, 0, 0, start=here)))
        world.pass_time(360)
    assert world.pose[3] > np.pi + 0.05
    assert world.status.state is State.RUNNING
    assert lengths(turning(np.array(world.references)[:, 3:6], 0.005)).max() <= TURNING * 1.01


def test_a_pose_that_falls_silent_stops_the_hand(world):
    world.answer(as_policy(way(0.2, 0, 0, 0, 0, 0)))
    world.pass_time(400)
    world.is_seen = False
    world.pass_time(700)
    assert world.status.state is State.HOLDING
    assert "/current_pose is silent" in world.status.message


def test_a_pose_in_another_frame_is_not_used(world):
    world.frame = "camera"
    world.pass_time(400)
    assert world.status.message == (
        "the pose on /current_pose is in frame 'camera', expected 'base'; set "
        "controller.tool.frame, or take child_frame in place of pose_topic"
    )


def test_a_quaternion_of_zeros_is_no_chunk(world):
    actions = as_policy(way(0, 0, 0, 0, 0, 0))
    actions[7, 3:7] = 0.0
    world.answer(actions)
    assert world.status.message == "chunk 1 is not finite: step 7 of rx is nan"


@pytest.mark.parametrize("rotation", list(Rotation))
def test_every_convention_of_a_rotation_moves_the_hand_alike(rotation):
    names = [f"r{index}" for index in range(rotation.size)]
    columns = ["px", "py", "pz", *names, "gripper"]
    changes = {"controller.tool.rotation": rotation.value, "action_columns": columns}
    settings = settings_from_parameters(PARAMETERS | changes)
    metadata = METADATA | {
        "action_dim": len(columns),
        "action_names": columns,
        "actions": actions_metadata(rotation.value, columns),
    }
    agreement = agree(parse_contract(metadata), settings)
    assert agreement.column_count == len(columns)
    expected = way(0.1, 0, 0, 0.3, -0.2, 0.1)
    told = rtc_of(Continuation(expected, 3, 10), dataclasses.replace(agreement, horizon=None))
    np.testing.assert_allclose(
        np.abs(told["previous_actions"]), np.abs(as_policy(expected, rotation)), atol=1e-5
    )


def test_the_server_must_mean_the_same():
    settings = settings_from_parameters(PARAMETERS)

    def refusal(**changes):
        with pytest.raises(ContractError) as error:
            agree(parse_contract(METADATA | changes), settings)
        return str(error.value)

    assert "writes the rotation of qx as quat_wxyz, and controller tool expects quat_xyzw" in (
        refusal(actions=actions_metadata("quat_wxyz"))
    )
    assert "counts in frame world, and controller tool in base" in (
        refusal(actions=actions_metadata(frame="world"))
    )
    mixed = actions_metadata()
    mixed[5] = mixed[5] | {"rotation": "rot6d"}
    assert "is no part of the rotation that qx begins" in refusal(actions=mixed)
    *pose, hand = actions_metadata()
    relative = [*(entry | {"reference": "observed_state"} for entry in pose), hand]
    assert "does not play a eef_pose with the reference observed_state" in refusal(actions=relative)


def test_a_server_that_says_nothing_is_played_by_the_parameters():
    settings = settings_from_parameters(PARAMETERS)
    agreement = agree(parse_contract(METADATA | {"actions": None}), settings)
    assert [axis.meaning.interface for axis in agreement.axes] == ["eef_pose"] * 6 + ["gripper"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"controller.tool.pose_topic": ""}, "needs the measured pose"),
        ({"controller.tool.child_frame": "tool0"}, "needs the measured pose"),
        ({"controller.tool.frame": ""}, "controller.tool.frame is not set"),
        ({"controller.tool.joints": ["px", "py", "pz", "rx", "rz", "ry"]}, "in the same order"),
        ({"joints": ["gripper", "px"]}, "px of controller tool are measured as a pose"),
        ({"action_columns": COLUMNS[1:]}, "has 7 names for 7 axes, whose poses have 1 columns"),
        ({"action_scale": [1.0] * 5 + [2.0, 1.0]}, "action_scale is 2 for rz"),
        ({"position_lower": [0.2, -0.3, 0.05, -3, -3, -3, 0]}, "a number of a rotation vector"),
        ({"max_acceleration": [0.5]}, "by itself; set it to at least 0.637"),
    ],
)
def test_parameters_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ParameterError, match=message):
        settings_from_parameters(PARAMETERS | changes)
