"""goal_run.py: a goal from its beginning to each of its ends, in virtual time."""

import dataclasses

import pytest
from bridge_world import MS, World, comes_to_rest, moving, still

from openpi_flash_robot.bridge.effects import ResetPolicy, SendRequest
from openpi_flash_robot.bridge.goal_run import EndReason, Goal, GoalRun
from openpi_flash_robot.bridge.status import Cause, State
from openpi_flash_robot.link.events import LinkDown
from openpi_flash_robot.settings.node_settings import StopSettings

SECOND = 1_000 * MS


class GoalWorld(World):
    """A world whose goals are looked at in each period, as the node does."""

    def __init__(self, settings):
        super().__init__(settings)
        self.goals = GoalRun(self.bridge)
        self.ends = []

    def collect(self, kind=object):
        self.goals.tick(self.now)
        self.ends += self.goals.take_ends()
        return super().collect(kind)

    def begin(self, name, prompt="", seconds=0.0):
        self.goals.begin(self.now, Goal(name, prompt, int(seconds * SECOND)))
        return self.collect()

    def play(self, milliseconds, actions=None):
        """Let time pass, with each request answered."""
        end = self.now + milliseconds * MS
        while self.now < end:
            request = self.pass_time((end - self.now) // MS, until=SendRequest)
            if request is None:
                return
            self.answer(request, actions)

    @property
    def reasons(self):
        return [(end.goal_id, end.reason) for end in self.ends]


@pytest.fixture
def world(settings):
    return GoalWorld(dataclasses.replace(settings, wait_for_goal=True))


@pytest.fixture
def running(world):
    """A robot that moves for goal A."""
    world.bridge.activate(world.now)
    world.up()
    world.begin("A", "stack")
    world.play(400, moving())
    assert world.status.state is State.RUNNING
    assert world.speed > 0
    return world


def test_a_robot_that_waits_for_a_goal_asks_and_moves_nothing(world):
    world.bridge.activate(world.now)
    world.up()
    assert world.pass_time(500, until=SendRequest) is None
    assert (world.status.state, world.status.cause) == (State.PAUSED, Cause.GOAL)
    assert not world.status.resumes_by_itself


def test_a_goal_sets_the_instruction_starts_an_episode_and_runs(world):
    world.bridge.activate(world.now)
    world.up()
    effects = world.begin("A", "stack")
    assert any(isinstance(effect, ResetPolicy) for effect in effects)
    assert (world.status.instruction.text, world.status.instruction.episode) == ("stack", 2)
    assert world.pass_time(100, until=SendRequest).observation.prompt == "stack"


def test_a_goal_without_an_instruction_keeps_the_current_one(running):
    version = running.status.instruction.version
    running.begin("B")
    assert running.status.instruction.text == "stack"
    assert running.status.instruction.version == version


def test_a_goal_ends_when_its_time_is_over_and_the_robot_stands_until_the_next(world):
    world.bridge.activate(world.now)
    world.up()
    world.begin("A", "stack", seconds=1.5)
    world.play(1_400, moving())
    assert world.ends == []
    world.play(200, moving())
    (end,) = world.ends
    assert (end.goal_id, end.reason) == ("A", EndReason.TIMEOUT)
    assert end.message == "max_duration of 1.5 s is over"
    assert end.elapsed == pytest.approx(1.5, abs=0.021)
    assert comes_to_rest(world)
    assert (world.status.state, world.status.cause) == (State.PAUSED, Cause.GOAL)
    assert world.pass_time(3_000, until=SendRequest) is None
    world.begin("B", "open")
    world.play(300)
    assert world.status.state is State.RUNNING


def test_a_goal_without_a_limit_runs_on(running):
    running.play(20_000)
    assert running.ends == []
    assert running.goals.elapsed == pytest.approx(20.4, abs=0.1)


def test_cancelling_stops_the_robot_at_once(running):
    assert running.goals.cancel(running.now, "A")
    running.collect()
    assert running.reasons == [("A", EndReason.CANCELED)]
    assert comes_to_rest(running)
    assert running.goals.goal is None
    assert not running.goals.cancel(running.now)


def test_cancelling_another_goal_changes_nothing(running):
    assert not running.goals.cancel(running.now, "B")
    running.play(200, moving())
    assert running.ends == []
    assert running.status.state is State.RUNNING


def test_a_newer_goal_takes_over_without_a_stop(running):
    running.begin("B", "open")
    assert running.reasons == [("A", EndReason.SUPERSEDED)]
    assert running.status.state is State.RUNNING
    assert running.speed > 0
    request = running.pass_time(60, until=SendRequest)
    assert request.observation.prompt == "open"
    assert running.goals.elapsed < 0.1, "its own time, not that of the goal before"


def test_a_fault_ends_the_goal_and_the_robot_does_not_go_on_after_reset(running):
    running.stuck_at = running.measured
    running.pass_time(600)
    ((name, reason),) = running.reasons
    assert (name, reason) == ("A", EndReason.FAULT)
    assert "does not follow" in running.ends[0].message
    assert running.status.cause is Cause.TRACKING, "what must be repaired comes first"
    running.stuck_at = None
    running.bridge.reset(running.now)
    assert running.status.cause is Cause.GOAL
    assert running.pass_time(1_000, until=SendRequest) is None


def test_hold_ends_the_goal_and_reset_does_not_bring_it_back(running):
    running.bridge.hold(running.now)
    running.collect()
    assert running.reasons == [("A", EndReason.HELD)]
    assert comes_to_rest(running)
    assert running.goals.refusal() == "held by ~/hold; call ~/reset to go on"
    running.bridge.reset(running.now)
    running.collect()
    assert running.goals.refusal() == ""
    assert running.status.cause is Cause.GOAL


def test_deactivation_ends_the_goal_and_activation_waits_for_the_next(settings):
    world = GoalWorld(settings)  # without wait_for_goal: it is the goal that makes it wait
    world.run()
    world.begin("A")
    world.bridge.deactivate(world.now)
    world.collect()
    assert world.reasons == [("A", EndReason.DEACTIVATED)]
    assert world.goals.refusal() == "not active"
    world.bridge.activate(world.now)
    assert world.pass_time(500, until=SendRequest) is None
    assert world.status.cause is Cause.GOAL


def test_pause_keeps_the_goal_and_its_time_runs_on(running):
    running.bridge.pause(running.now, paused=True)
    running.pass_time(1_000)
    assert running.ends == []
    assert running.status.cause is Cause.PAUSED
    assert running.goals.refusal() == "paused by ~/pause"
    running.bridge.pause(running.now, paused=False)
    running.play(300)
    assert running.status.state is State.RUNNING
    assert running.goals.elapsed > 1.3


def test_pause_with_false_lets_the_robot_go_on_without_a_goal(running):
    running.goals.cancel(running.now)
    running.bridge.pause(running.now, paused=False)
    running.play(400)
    assert running.status.state is State.RUNNING


def test_a_goal_that_ends_in_a_pause_does_not_let_the_robot_go_when_the_pause_ends(running):
    running.bridge.pause(running.now, paused=True)
    running.goals.cancel(running.now)
    running.bridge.pause(running.now, paused=False)
    assert running.status.cause is Cause.GOAL
    assert running.pass_time(500, until=SendRequest) is None
    running.bridge.pause(running.now, paused=False)
    running.play(400)
    assert running.status.state is State.RUNNING


def test_a_lost_link_leaves_the_goal_waiting_for_it(running):
    running.event(LinkDown("gone"))
    running.pass_time(500)
    assert running.ends == []
    running.up()
    running.play(400)
    assert running.status.state is State.RUNNING


def test_a_server_that_refuses_the_key_ends_the_goal(running):
    running.event(LinkDown("the server refused the api key", needs_human=True))
    assert running.ends[0].reason is EndReason.FAULT
    assert running.ends[0].message == "the server refused the api key"


def test_a_clock_that_is_set_back_neither_ends_a_goal_nor_gives_it_time(running):
    before = running.goals.elapsed
    running.goals.tick(running.now - SECOND)
    assert running.goals.elapsed == before
    running.goals.tick(running.now - SECOND // 2)
    assert running.goals.elapsed == pytest.approx(before + 0.5)


def test_the_time_of_a_goal_begins_with_the_clock(world):
    world.bridge.activate(0)
    world.goals.begin(0, Goal("A", "", max_duration_ns=SECOND))
    world.goals.tick(0)
    world.goals.tick(1_700_000_000 * SECOND)
    assert world.goals.take_ends() == []
    world.goals.tick(1_700_000_001 * SECOND)
    assert [end.reason for end in world.goals.take_ends()] == [EndReason.TIMEOUT]


def pressed(settings):
    return GoalWorld(dataclasses.replace(settings, stops=StopSettings(emergency_stops=("/estop",))))


def test_no_goal_begins_while_an_emergency_stop_is_pressed_latched_or_not_heard(settings):
    world = pressed(settings)
    world.bridge.activate(world.now)
    world.up()
    assert "/estop was not heard yet" in world.goals.refusal()
    world.bridge.hear_stop(world.now, "/estop", False)
    assert world.goals.refusal() == ""
    world.begin("A")
    world.play(400, moving())
    world.bridge.hear_stop(world.now, "/estop", True)
    world.collect()
    assert world.reasons == [("A", EndReason.FAULT)]
    assert "/estop is pressed" in world.goals.refusal()
    world.bridge.hear_stop(world.now, "/estop", False)
    assert "call ~/reset" in world.goals.refusal()
    world.begin("B")
    assert world.reasons[-1] == ("B", EndReason.REJECTED)
    assert world.goals.goal is None
    world.bridge.reset(world.now)
    assert world.goals.refusal() == ""


def test_an_emergency_stop_ends_also_a_goal_that_has_not_moved_yet(settings):
    world = pressed(settings)
    world.bridge.hear_stop(world.now, "/estop", False)
    world.bridge.activate(world.now)
    world.begin("A")
    world.bridge.hear_stop(world.now, "/estop", True)
    world.collect()
    assert world.reasons == [("A", EndReason.FAULT)]


def test_no_goal_begins_before_the_node_is_active(settings):
    world = GoalWorld(settings)
    world.begin("A")
    assert world.reasons == [("A", EndReason.REJECTED)]
    assert world.ends[0].message == "not active"


def test_a_robot_without_goals_runs_as_before(settings):
    world = GoalWorld(settings)
    world.run()
    world.play(1_000, still())
    assert world.status.state is State.RUNNING
    assert world.ends == []
