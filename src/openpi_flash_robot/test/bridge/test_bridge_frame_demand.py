"""bridge.py with frames that are taken when it wants them, beside one that gets each at once."""

import dataclasses
from collections import deque

import pytest
from bridge_world import JOINTS, MS, PERIOD, World, moving

from openpi_flash_robot.bridge.effects import SendRequest
from openpi_flash_robot.bridge.status import State

CAMERAS = ("scene", "wrist")


class SparingWorld(World):
    """The middleware keeps the two newest frames of each camera, as the node's does."""

    def __init__(self, settings):
        super().__init__(settings)
        self.waiting = {name: deque(maxlen=2) for name in CAMERAS}
        self.published = self.taken = 0

    def sense(self):
        if self.bridge.wants_frames(self.now):
            for name, frames in self.waiting.items():
                while frames:
                    self.bridge.add_frame(name, frames[0], f"{name}@{frames.popleft()}")
                    self.taken += 1

    def event(self, event):
        self.sense()
        return super().event(event)

    def pass_time(self, milliseconds, *, until=None):
        for _ in range(milliseconds * MS // PERIOD):
            self.now += PERIOD
            for name in CAMERAS:
                if name not in self.silent:
                    self.waiting[name].append(self.now - 5 * MS)
                    self.published += 1
            if "joints" not in self.silent:
                self.bridge.add_joints(self.now - MS, JOINTS, self.measured)
            self.sense()
            self.bridge.tick(self.now)
            found = self.collect(until) if until else self.collect()
            if until and found:
                return found[0]
        return None


def answered(world, seconds):
    """Let the policy answer each request after 40 ms for a while."""
    end = world.now + seconds * 1_000 * MS
    while world.now < end:
        request = world.pass_time(2_000, until=SendRequest)
        world.answer(request)


@pytest.fixture
def sparing(settings):
    world = SparingWorld(settings)
    world.run()
    answered(world, 8)
    return world


def test_most_frames_are_never_taken(sparing):
    sparing.published = sparing.taken = 0
    answered(sparing, 20)
    assert sparing.published > 1_900
    assert sparing.taken < 0.3 * sparing.published


def test_each_observation_has_the_newest_frames(sparing):
    for _ in range(10):
        request = sparing.pass_time(2_000, until=SendRequest)
        frames = request.observation.frames
        assert sparing.now - frames.oldest_ns == 5 * MS
        sparing.answer(request)


@pytest.mark.parametrize("fraction", [0, 7, 13])
def test_silence_stops_the_robot_in_the_same_period_as_if_every_frame_were_taken(
    settings, fraction
):
    stopped = []
    for kind in (World, SparingWorld):
        world = kind(settings)
        world.run()
        answered(world, 8)
        world.pass_time(fraction * 20)
        world.silent = {"wrist"}
        begin = world.now
        while world.status.state is State.RUNNING:
            world.pass_time(20)
        assert "camera wrist (/wrist/image_raw)" in world.status.message
        stopped.append((world.now - begin) / MS)
    assert stopped[0] == stopped[1]
    assert stopped[1] <= 520


def test_a_server_that_thinks_longer_than_a_robot_may_be_blind_is_heard(settings):
    player = dataclasses.replace(settings.player, max_chunk_age_ns=2_000 * MS)
    world = SparingWorld(dataclasses.replace(settings, player=player))
    world.bridge.activate(world.now)
    world.up()
    for _ in range(12):  # until most frames are left alone
        request = world.pass_time(1_000, until=SendRequest)
        world.answer(request, latency_ms=700)
        assert world.status.state is State.RUNNING


def test_no_frame_is_wanted_between_observations(sparing):
    request = sparing.pass_time(2_000, until=SendRequest)
    sparing.sense()
    assert not sparing.bridge.wants_frames(sparing.now)
    sparing.answer(request)
    assert not sparing.bridge.wants_frames(sparing.now + PERIOD)


def test_a_hold_for_narrower_limits_does_not_blame_a_camera_whose_frames_were_left_alone(
    settings,
):
    player = dataclasses.replace(settings.player, execution_horizon=15)
    settings = dataclasses.replace(settings, player=player, execution_horizon=15)
    world = SparingWorld(settings)
    world.run()
    answered(world, 12)
    request = world.pass_time(2_000, until=SendRequest)
    world.answer(request, moving())
    world.pass_time(240)  # the newest frame that the bridge knows is older than may be sent
    assert world.speed > 0.1
    narrow = dataclasses.replace(player, max_velocity=(0.1, 0.1, 0.1))
    world.bridge.update_settings(dataclasses.replace(settings, player=narrow))
    said = set()
    while world.pass_time(20, until=SendRequest) is None:
        said.add(world.status.message)
    assert said == {"the limits have become narrower"}
