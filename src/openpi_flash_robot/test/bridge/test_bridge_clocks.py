"""bridge.py: stamps and clocks that jump while the robot moves, by NTP, a bag or a simulator."""

import numpy as np
import pytest
from bridge_world import COST, JOINTS, MS, PERIOD, moving

from openpi_flash_robot.bridge.effects import PublishChunk, PublishTrajectory, SendRequest
from openpi_flash_robot.bridge.status import Cause, State
from openpi_flash_robot.link.events import RequestDone

JUMP = 10_000 * MS
MAX_BLIND = 500
FASTEST = 1.0
"""rad/s, of the shoulder."""


def start(world):
    """Bring it to move at full speed."""
    world.now += 100_000 * MS
    world.run()
    world.answer(world.pass_time(600, until=SendRequest), moving())
    world.pass_time(300)
    assert world.speed > 0.3


def pass_time(world, milliseconds, offsets):
    """As the world's, with offsets of the stamps of some senses; requests are answered."""
    for _ in range(milliseconds * MS // PERIOD):
        world.now += PERIOD
        for camera in ("scene", "wrist"):
            stamp = world.now - 5 * MS + offsets.get(camera, 0)
            world.bridge.add_frame(camera, stamp, f"{camera}@{stamp}")
        stamp = world.now - MS + offsets.get("joints", 0)
        world.bridge.add_joints(stamp, JOINTS, world.measured)
        world.bridge.tick(world.now)
        for request in world.collect(SendRequest):
            world.answer(request, moving(), latency_ms=0)


@pytest.mark.parametrize("sense", ["wrist", "joints"])
@pytest.mark.parametrize("jump", [JUMP, -JUMP, 800 * MS, -800 * MS])
def test_stamps_of_one_sense_that_jump_stop_the_robot_as_if_it_were_blind(world, sense, jump):
    start(world)
    pass_time(world, MAX_BLIND + 40, {sense: jump})
    status = world.status
    assert (status.state, status.cause) == (State.HOLDING, Cause.OBSERVATION)
    assert ("/joint_states" if sense == "joints" else "/wrist/image_raw") in status.message
    assert ("in the future; synchronise the clocks" in status.message) == (jump > 0)
    pass_time(world, 500, {sense: jump})
    assert world.speed == 0.0
    pass_time(world, 1_000, {})
    assert world.status.state is State.RUNNING, world.status.message


@pytest.mark.parametrize("jump", [JUMP, -JUMP, 300 * MS, -300 * MS, 60 * MS, -60 * MS])
def test_a_clock_that_is_set_while_the_robot_moves_makes_no_jump_of_ours_and_it_goes_on(
    world, jump
):
    """Drivers, controller and node have one clock: the controller is elsewhere by the jump."""
    start(world)
    world.now += jump
    seen = [world.controller.reference(world.now).positions]
    for _ in range(150):
        pass_time(world, 20, {})
        seen.append(world.controller.reference(world.now).positions)
    assert np.abs(np.diff(seen, axis=0)).max() <= FASTEST * 0.021
    assert world.status.state is State.RUNNING, world.status.message
    assert not np.allclose(seen[-1], seen[-25])


def test_a_bag_that_begins_anew_again_and_again_is_played_by(world):
    start(world)
    begin = world.now
    for _ in range(4):
        world.now = begin
        pass_time(world, 1_500, {})
        assert world.status.state is State.RUNNING, world.status.message


def stand_still(world, milliseconds):
    """ROS time stands while a steady clock goes on, and senses and server with it."""
    begin = world.steady
    for _ in range(milliseconds // 20):
        world.steady += PERIOD
        for camera in ("scene", "wrist"):
            world.bridge.add_frame(camera, world.now, f"{camera}@{world.steady}")
        world.bridge.add_joints(world.now, JOINTS, world.measured)
        world.bridge.look_at_clock(world.now, world.steady)
        world.bridge.tick(world.now)
        world.collect()
    assert world.steady > begin


def test_a_clock_that_stops_while_the_robot_moves_ends_all_commands_and_then_nothing_jumps(world):
    start(world)
    world.steady = 5_000 * MS
    world.bridge.look_at_clock(world.now, world.steady)
    asked = world.pass_time(500, until=SendRequest)
    world.bridge.look_at_clock(world.now, world.steady)
    stand_still(world, 1_000)
    status = world.status
    assert (status.state, status.cause) == (State.HOLDING, Cause.CLOCK)
    assert status.message.startswith("/clock has been silent for 1.0 s")
    assert status.condition.resumes_by_itself
    sent = len(world.effects)
    world.event(RequestDone(asked.request_id, {"actions": moving()}, 0.003, 0.04, COST))
    stand_still(world, 2_000)
    commands = (PublishTrajectory, PublishChunk, SendRequest)
    assert not [effect for effect in world.effects[sent:] if isinstance(effect, commands)]

    seen = [world.controller.reference(world.now)]
    for _ in range(100):
        world.steady += PERIOD
        pass_time(world, 20, {})
        world.bridge.look_at_clock(world.now, world.steady)
        seen.append(world.controller.reference(world.now))
    positions = np.array([state.positions for state in seen])
    velocities = np.array([state.velocities for state in seen])
    assert np.abs(np.diff(positions, axis=0)).max() <= FASTEST * 0.021
    # 5 rad/s^2
    assert np.abs(np.diff(velocities, axis=0)).max() <= 5.0 * 0.0205
    assert world.status.state is State.RUNNING, world.status.message
    assert world.speed > 0.1


def test_a_clock_that_stops_while_a_robot_rests_commands_nothing(world):
    world.run()
    world.bridge.hold(world.now)
    world.pass_time(1_000)
    world.steady = 0
    sent = len(world.all(PublishTrajectory))
    stand_still(world, 1_000)
    assert world.status.message == "held by ~/hold; call ~/reset to go on"
    world.bridge.reset(world.now)
    assert "/clock has been silent" in world.status.message
    stand_still(world, 1_000)
    assert len(world.all(PublishTrajectory)) == sent
