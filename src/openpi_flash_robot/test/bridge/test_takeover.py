"""takeover.py, leading.py, and the bridge: a person takes the robot and gives it back."""

import numpy as np
import pytest
from bridge_world import JOINTS, MS, World, moving

from openpi_flash_robot.bridge.effects import PublishTrajectory, ResetPolicy, SendRequest
from openpi_flash_robot.bridge.status import Cause, State
from openpi_flash_robot.link.events import LinkDown, RequestDone
from openpi_flash_robot.settings.node_settings import StopSettings, TakeoverSettings

TAKEOVER = TakeoverSettings("/takeover", "/leader/joint_states", JOINTS, 500 * MS, 500 * MS)
ESTOP = "/estop"


class TakenWorld(World):
    """A world with a leader arm; `leader` is where the person holds it, None for silence."""

    leader = None
    switch = None

    def pass_time(self, milliseconds, *, until=None):
        for _ in range(milliseconds // 20):
            if self.switch is not None:
                self.bridge.hear_takeover(self.now, self.switch)
            if self.leader is not None:
                self.bridge.hear_target(self.now, JOINTS, self.leader)
            found = super().pass_time(20, until=until)
            if found is not None:
                return found
        return None


@pytest.fixture
def world(settings, replace):
    stops = StopSettings(emergency_stops=(ESTOP,))
    world = TakenWorld(replace(settings, takeover=TAKEOVER, stops=stops))
    world.bridge.hear_stop(world.now, ESTOP, False)
    return world


def take(world, *, leader=None):
    """The person takes a robot that moves by a chunk, with the leader where the robot is."""
    world.run()
    world.answer(world.pass_time(2_000, until=SendRequest), moving())
    world.pass_time(300)
    assert world.speed > 0.05
    world.leader = list(world.measured) if leader is None else leader
    world.switch = True
    world.pass_time(400)


def reference(world):
    return world.controller.reference(world.now).positions


def lead(world, joint, speed, milliseconds):
    """The person moves one joint of the leader at a speed; the fastest the robot went."""
    fastest = 0.0
    for _ in range(milliseconds // 20):
        world.leader[joint] += speed * 0.02
        world.pass_time(20)
        fastest = max(fastest, world.speed)
    return fastest


def test_the_robot_follows_the_person_within_its_limits_and_no_request_is_sent(world):
    take(world)
    assert (world.status.state, world.status.cause) == (State.PAUSED, Cause.TAKEOVER)
    assert world.status.intervention
    before = len(world.all(SendRequest))
    begin = reference(world)[0]
    lead(world, 0, 0.3, 1_000)
    assert reference(world)[0] - begin == pytest.approx(0.3, abs=0.08)
    assert lead(world, 0, 5.0, 200) <= 1.0 + 1e-6  # max_velocity of the shoulder
    world.pass_time(2_000)
    np.testing.assert_allclose(reference(world), world.leader, atol=5e-3)
    assert len(world.all(SendRequest)) == before


def test_what_the_leader_commands_stays_within_the_position_limits(world):
    take(world)
    lead(world, 0, 1.0, 3_000)
    world.pass_time(2_000)
    assert world.leader[0] > 2.5
    assert reference(world)[0] <= 2.0


def test_giving_back_resets_the_policy_and_starts_from_a_new_observation(world):
    take(world)
    lead(world, 0, 0.3, 500)
    world.switch = False
    world.pass_time(20)
    given_back = world.now
    assert world.all(ResetPolicy) == [ResetPolicy()]
    assert not world.status.intervention
    request = world.all(SendRequest)[-1]
    if request.observation.oldest_ns < given_back - 60 * MS:
        request = world.pass_time(500, until=SendRequest)
    assert request.observation.oldest_ns >= given_back - 60 * MS
    world.pass_time(200)
    assert world.speed == 0.0
    here = np.tile(world.measured, (50, 1))
    world.answer(request, here)
    assert world.status.state is State.RUNNING
    world.pass_time(200)
    assert world.speed < 0.05


def test_an_answer_in_flight_does_not_move_a_robot_that_a_person_has(world):
    world.run()
    request = world.pass_time(2_000, until=SendRequest)
    world.leader, world.switch = list(world.measured), True
    world.pass_time(40)
    world.event(RequestDone(request.request_id, {"actions": moving()}, 0.0, 0.1, None))
    world.pass_time(500)
    np.testing.assert_allclose(reference(world), world.leader, atol=5e-3)


def test_a_leader_that_is_far_away_moves_nothing_until_it_is_brought_near(world):
    take(world, leader=[1.5, 0.2, 0.5])
    stood = reference(world)
    assert world.speed == 0.0
    assert "the target of shoulder is" in world.status.message
    assert "max_start_delta is 0.5; bring the leader nearer" in world.status.message
    world.pass_time(500)
    np.testing.assert_array_equal(reference(world), stood)
    world.leader = [stood[0] + 0.1, stood[1], stood[2]]
    world.pass_time(1_000)
    np.testing.assert_allclose(reference(world), world.leader, atol=5e-3)


@pytest.mark.parametrize("silent", ["leader", "switch", "joints"])
def test_whatever_falls_silent_leaves_the_robot_standing_with_the_person(world, silent):
    take(world)
    lead(world, 0, 0.4, 500)
    if silent == "joints":
        world.silent.add("joints")
    else:
        setattr(world, silent, None)
    world.pass_time(1_000)
    assert world.speed == 0.0
    assert world.status.cause is Cause.TAKEOVER
    assert "silent" in world.status.message or "is 1.02 s old" in world.status.message
    sent = len(world.all(SendRequest))
    world.pass_time(2_000)
    assert len(world.all(SendRequest)) == sent


@pytest.mark.parametrize("stop", ["estop", "hold", "pause", "deactivate", "limits"])
def test_every_stop_stops_a_robot_that_is_led(world, settings, replace, stop):
    take(world)
    lead(world, 0, 0.4, 500)
    assert world.speed > 0.2
    none = replace(settings.player, position_lower=(float("-inf"),) * 3)
    {
        "estop": lambda: world.bridge.hear_stop(world.now, ESTOP, True),
        "hold": lambda: world.bridge.hold(world.now),
        "pause": lambda: world.bridge.pause(world.now, True),
        "deactivate": lambda: world.bridge.deactivate(world.now),
        "limits": lambda: world.bridge.update_settings(
            replace(settings, takeover=TAKEOVER, player=none)
        ),
    }[stop]()
    world.collect()
    lead(world, 0, 0.4, 400)
    assert world.speed == 0.0
    stood = reference(world)
    lead(world, 0, 0.4, 400)
    np.testing.assert_array_equal(reference(world), stood)


def test_an_arm_that_does_not_follow_the_person_is_stopped_and_named(world):
    take(world)
    world.stuck_at = world.measured
    lead(world, 0, 0.5, 600)
    assert world.status.cause is Cause.TRACKING
    assert not world.status.resumes_by_itself
    lead(world, 0, 0.5, 400)
    assert world.speed < 1.0
    world.pass_time(2_000)
    np.testing.assert_allclose(reference(world), world.stuck_at, atol=0.02)


def test_a_person_can_take_a_robot_whose_server_is_gone(world):
    take(world)
    world.event(LinkDown("the server is gone"))
    begin = reference(world)[0]
    lead(world, 0, 0.3, 1_000)
    assert reference(world)[0] - begin > 0.2
    assert world.status.cause is Cause.TAKEOVER
    world.switch = False
    world.pass_time(300)
    assert world.status.state is State.DISCONNECTED
    assert world.speed == 0.0


def test_a_robot_that_is_activated_while_a_person_has_it_stays_that_persons(world):
    take(world)
    world.bridge.deactivate(world.now)
    world.pass_time(500)
    world.bridge.activate(world.now)
    sent = len(world.all(SendRequest))
    world.pass_time(1_000)
    assert len(world.all(SendRequest)) == sent
    assert world.status.cause is Cause.TAKEOVER
    assert world.all(PublishTrajectory)
