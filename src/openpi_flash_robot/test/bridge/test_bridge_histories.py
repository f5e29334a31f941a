"""bridge.py: whatever happens in whatever order, the limits hold, and the robot goes on in the end.

Random histories of eight seconds, by their seeds; the controller's reference is looked at a
thousand times a second.
"""

import dataclasses

import numpy as np
import pytest
from bridge_world import COST, JOINTS, METADATA, MS, World

from openpi_flash_robot.bridge.command_topic import CommandTopic
from openpi_flash_robot.bridge.effects import AnswerChunk, SendRequest
from openpi_flash_robot.bridge.goal_run import Goal, GoalRun
from openpi_flash_robot.bridge.status import State
from openpi_flash_robot.link.events import (
    FailureKind,
    FirstActionsCame,
    LinkDown,
    LinkUp,
    RequestDone,
    RequestFailure,
)
from openpi_flash_robot.play.splice.methods import CHUNK_METHODS
from openpi_flash_robot.settings.node_settings import StopSettings

ESTOP, ENABLE = "/estop", "/enable"
CONTRACT = METADATA | {"supports": ["rtc"]}
JERK_SHARES = (7.0, 20.0, 60.0)
"""1/s; the motion is averaged over two of them, at most 0.29 s."""


class History:
    """A world in which a generator of random numbers decides what happens."""

    contract = CONTRACT

    def __init__(self, settings, seed, jerk_shares=None):
        """Draw the settings; with `jerk_shares`, the jerk's limit as a share of acceleration."""
        self.rng = np.random.default_rng(seed)
        player = dataclasses.replace(
            settings.player,
            chunk_method=str(self.rng.choice(sorted(CHUNK_METHODS))),
            max_velocity=tuple(self.rng.choice([0.2, 1.0, 3.0], 3)),
            max_acceleration=tuple(self.rng.choice([0.5, 5.0, 20.0], 3)),
            max_start_delta=(9.0,) * 3,
            max_tracking_error=(0.08, 0.08, 0.0),
            lead_ns=int(self.rng.choice([0, 40, 150])) * MS,
        )
        if jerk_shares:
            shares = self.rng.choice(jerk_shares, 3)
            jerk = tuple(float(a * s) for a, s in zip(player.max_acceleration, shares, strict=True))
            player = dataclasses.replace(player, max_jerk=jerk)
        stops = StopSettings(emergency_stops=(ESTOP,), enable=ENABLE)
        self.world = World(dataclasses.replace(settings, player=player, stops=stops))
        self.player, self.pending = player, []
        self.is_pressed, self.is_enabled, self.is_active, self.is_paused = False, True, True, False
        self.goals, self.asked = GoalRun(self.world.bridge), 0
        self.switch()
        self.world.bridge.activate(self.world.now)
        self.world.bridge.link_event(self.world.now, LinkUp(self.contract))

    def switch(self):
        bridge, now = self.world.bridge, self.world.now
        bridge.hear_stop(now, ESTOP, self.is_pressed)
        bridge.hear_stop(now, ENABLE, self.is_enabled)

    def chunk(self):
        here = self.world.controller.reference(self.world.now).positions
        steps = np.arange(1, 51)[:, np.newaxis]
        kind = self.rng.integers(4)
        if kind == 0:
            return here + self.rng.uniform(-0.05, 0.05, 3) * steps
        if kind == 1:
            return here + 0.3 * np.sin(steps * self.rng.uniform(0.05, 3.0, 3))
        if kind == 2:
            return self.rng.uniform(-5.0, 5.0, (50, 3))
        return np.tile(here + self.rng.uniform(-0.3, 0.3, 3), (50, 1))

    def happen(self):
        """One thing that people, networks and machines do."""
        bridge, now = self.world.bridge, self.world.now
        kind = int(self.rng.integers(19))  # clearing all is the most likely
        if kind == 0:
            bridge.hold(now)
        elif kind == 1:
            bridge.reset(now)
        elif kind == 2:
            self.is_paused = not self.is_paused
            bridge.pause(now, self.is_paused)
        elif kind == 3:
            self.is_active = not self.is_active
            (bridge.activate if self.is_active else bridge.deactivate)(now)
            self.is_paused = False
        elif kind == 4:
            self.is_pressed = not self.is_pressed
        elif kind == 5:
            self.is_enabled = not self.is_enabled
        elif kind == 6:
            bridge.link_event(now, LinkDown("lost"))
            self.pending.clear()
        elif kind == 7:
            bridge.link_event(now, LinkUp(self.contract))
        elif kind == 8:
            bridge.set_prompt(now, "go on", reset=bool(self.rng.integers(2)))
        elif kind == 9:
            others = ("/moveit",) if self.rng.integers(2) else ()
            bridge.command_topics(now, [CommandTopic("arm", "/arm", 1, others)])
        elif kind <= 12:
            self.ask_for_something(kind - 10)
        else:
            self.clear()

    def ask_for_something(self, kind):
        """What behaviour trees do."""
        bridge, now = self.world.bridge, self.world.now
        if kind == 0:
            self.goals.begin(now, Goal(now, "do it", int(self.rng.integers(3)) * 500 * MS))
        elif kind == 1:
            self.goals.cancel(now)
        else:
            self.is_paused = True
            bridge.pause(now, True)
            self.asked += bridge.infer_once(now, "", 0.0) == ""

    def clear(self):
        """Every cause is gone."""
        bridge, now = self.world.bridge, self.world.now
        self.is_pressed, self.is_enabled, self.is_paused = False, True, False
        self.switch()
        if not self.is_active:
            self.is_active = True
            bridge.activate(now)
        bridge.pause(now, False)
        bridge.pause(now, False)  # the second ends the wait for a goal
        bridge.link_event(now, LinkUp(self.contract))
        bridge.command_topics(now, [])
        bridge.reset(now)

    def answer(self):
        for due, request in list(self.pending):
            if due > self.world.now:
                continue
            self.pending.remove((due, request))
            if self.rng.random() < 0.9:
                event = RequestDone(request, {"actions": self.chunk()}, 0.003, 0.04, COST)
            else:
                event = RequestFailure(request, FailureKind.TIMEOUT, "no answer")
            self.world.bridge.link_event(self.world.now, event)
            self.collect()

    def collect(self):
        self.goals.tick(self.world.now)
        for request in self.world.collect(SendRequest):
            late = int(self.rng.choice([5, 40, 120, 400])) * MS
            self.pending.append((self.world.now + late, request.request_id))

    def pass_time(self, milliseconds):
        """The reference meanwhile, each millisecond: positions and velocities."""
        world, bridge = self.world, self.world.bridge
        begin, world.now = world.now, world.now + milliseconds * MS
        seen = [world.controller.reference(begin + k * MS) for k in range(milliseconds)]
        for camera in ("scene", "wrist"):
            bridge.add_frame(camera, world.now - 5 * MS, "image")
        bridge.add_joints(world.now - MS, JOINTS, world.measured)
        self.switch()
        self.answer()
        bridge.tick(world.now)
        self.collect()
        return seen


class FirstHistory(History):
    """One in which first actions come: in time, late, twice, wrong, and for nobody."""

    contract = METADATA | {"supports": ["rtc", "first_actions"]}

    def __init__(self, settings, seed, jerk_shares=None):
        steps = int(np.random.default_rng(seed + 500).choice([1, 3, 10, 25, 49]))
        super().__init__(dataclasses.replace(settings, first_actions=steps), seed, jerk_shares)
        self.steps, self.parts, self.chunks, self.begun = steps, [], {}, 0

    def first(self, request_id):
        """A chunk's first steps, or something that only resembles them."""
        whole = self.chunks.setdefault(request_id, self.chunk())
        kind = self.rng.integers(12)
        if kind == 0:
            return {"actions": np.full((self.steps, 3), np.nan)}
        if kind == 1:
            return {"actions": whole[: self.steps + 1]}
        if kind == 2:
            return {"subtask": "go"}
        if kind == 3:
            # not those of the whole chunk
            return {"actions": self.chunk()[: self.steps]}
        return {"actions": whole[: self.steps]}

    def answer(self):
        bridge, now = self.world.bridge, self.world.now
        for due, request_id in list(self.parts):
            if due <= now:
                self.parts.remove((due, request_id))
                before = bridge._sequence
                event = FirstActionsCame(request_id, self.first(request_id))
                bridge.link_event(now, event)
                self.begun += bridge._sequence > before
        for due, request in list(self.pending):
            if due > now:
                continue
            self.pending.remove((due, request))
            if self.rng.random() < 0.8:
                whole = self.chunks.pop(request, None)
                result = {"actions": self.chunk() if whole is None else whole}
                event = RequestDone(request, result, 0.003, 0.04, COST)
            else:
                kind = self.rng.choice([FailureKind.TIMEOUT, FailureKind.SUPERSEDED])
                event = RequestFailure(request, kind, "no answer")
            bridge.link_event(now, event)
            self.collect()

    def collect(self):
        self.goals.tick(self.world.now)
        for request in self.world.collect(SendRequest):
            late = int(self.rng.choice([40, 120, 400])) * MS
            self.pending.append((self.world.now + late, request.request_id))
            for _ in range(int(self.rng.integers(3)) if request.first_actions else 0):
                early = int(self.rng.choice([5, 20, 60, 150, 500])) * MS
                self.parts.append((self.world.now + early, request.request_id))


def played(history, late_share):
    """Positions, velocities, accelerations and jerks of eight seconds, each millisecond."""
    seen = []
    for _ in range(400):
        late = history.rng.random() < late_share
        seen += history.pass_time(int(history.rng.choice([100, 200, 400]) if late else 20))
        if history.rng.random() < 0.03:
            history.happen()
            history.collect()
        bridge = history.world.bridge
        if bridge._stopped() is not None:
            assert bridge._arm.player.plan is None, "a plan runs although the robot has to stand"
    positions = np.array([state.positions for state in seen])
    velocities = np.array([state.velocities for state in seen])
    accelerations = np.diff(velocities, axis=0) / 1e-3
    return positions, velocities, accelerations, np.diff(accelerations, axis=0) / 1e-3


def assert_within_limits(history, positions, velocities, accelerations):
    player = history.player
    assert np.all(positions >= np.asarray(player.position_lower) - 1e-6)
    assert np.all(positions <= np.asarray(player.position_upper) + 1e-6)
    assert np.all(np.abs(velocities) <= 1.01 * np.asarray(player.max_velocity))
    assert np.all(np.abs(accelerations) <= 1.05 * np.asarray(player.max_acceleration))
    assert np.abs(velocities).max() > 0.04, "nothing was tried: the robot has not moved"


def assert_goes_on(history):
    for _ in range(400):
        history.clear()
        for _ in range(20):
            history.pass_time(20)
            if history.world.status.state is State.RUNNING:
                assert len(history.world.all(AnswerChunk)) == history.asked
                return
    pytest.fail(f"it does not go on: {history.world.status}")


@pytest.mark.parametrize("seed", range(12))
def test_the_limits_hold_nothing_fails_and_the_robot_goes_on_in_the_end(settings, seed):
    history = History(settings, seed)
    positions, velocities, accelerations, _ = played(history, late_share=0.03)
    assert_within_limits(history, positions, velocities, accelerations)
    assert_goes_on(history)


@pytest.mark.parametrize("seed", range(12))
def test_first_actions_leave_the_limits_what_they_are_and_the_robot_goes_on(settings, seed):
    history = FirstHistory(settings, seed)
    positions, velocities, accelerations, _ = played(history, late_share=0.03)
    assert_within_limits(history, positions, velocities, accelerations)
    assert_goes_on(history)


@pytest.mark.parametrize("seed", range(12))
def test_first_actions_leave_the_jerk_what_it_is(settings, seed):
    history = FirstHistory(settings, seed, jerk_shares=JERK_SHARES)
    positions, velocities, accelerations, jerks = played(history, late_share=0.0)
    assert_within_limits(history, positions, velocities, accelerations)
    assert np.all(np.abs(jerks) <= 1.05 * np.asarray(history.player.max_jerk))


def test_the_histories_play_first_actions(settings):
    begun = 0
    for seed in range(4):
        history = FirstHistory(settings, seed)
        played(history, late_share=0.0)
        begun += history.begun
    assert begun > 10


@pytest.mark.parametrize("seed", range(8))
def test_a_limited_jerk_leaves_the_other_limits_what_they_are(settings, seed):
    history = History(settings, seed, jerk_shares=JERK_SHARES)
    positions, velocities, accelerations, _ = played(history, late_share=0.03)
    assert_within_limits(history, positions, velocities, accelerations)
    assert_goes_on(history)


@pytest.mark.parametrize("seed", range(12))
def test_the_jerk_keeps_to_its_limit_where_the_node_is_in_time(settings, seed):
    history = History(settings, seed, jerk_shares=JERK_SHARES)
    positions, velocities, accelerations, jerks = played(history, late_share=0.0)
    assert_within_limits(history, positions, velocities, accelerations)
    assert np.all(np.abs(jerks) <= 1.05 * np.asarray(history.player.max_jerk))


@pytest.mark.parametrize("seed", range(6))
def test_an_activation_while_the_arm_still_brakes_keeps_to_the_limits(settings, seed):
    history = History(settings, seed, jerk_shares=JERK_SHARES)
    bridge, seen = history.world.bridge, []
    for _ in range(10):
        while not bridge._arm.player.is_moving(history.world.now + 300 * MS):
            seen += history.pass_time(20)
        bridge.deactivate(history.world.now)
        history.collect()
        seen += history.pass_time(20)
        bridge.activate(history.world.now)
        history.collect()
        for _ in range(20):
            seen += history.pass_time(20)
    velocities = np.array([state.velocities for state in seen])
    accelerations = np.diff(velocities, axis=0) / 1e-3
    jerks = np.diff(accelerations, axis=0) / 1e-3
    assert np.all(np.abs(accelerations) <= 1.05 * np.asarray(history.player.max_acceleration))
    assert np.all(np.abs(jerks) <= 1.05 * np.asarray(history.player.max_jerk))
