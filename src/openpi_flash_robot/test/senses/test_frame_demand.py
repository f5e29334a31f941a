"""frame_demand.py: which frames are worth a copy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpi_flash_robot.senses.frame_demand import GLANCE_NS, TRIAL, FrameDemand
from openpi_flash_robot.senses.frames import NEAR_NS, CameraFrames, FrameSet

MS = 1_000_000
BLIND = 500 * MS
CAMERAS = {"scene": "/scene", "wrist": "/wrist"}


class Cameras:
    """Two cameras with periods and delays in milliseconds, of which two frames each are kept."""

    def __init__(self, **cameras):
        self.frames = CameraFrames({name: f"/{name}" for name in cameras})
        self.demand = FrameDemand(self.frames)
        self._cameras = cameras

    def observe(self, now_ms):
        """Take the two newest frames of each, and choose."""
        for name, (period, delay) in self._cameras.items():
            newest = (now_ms - delay) // period * period
            for stamp in (newest - period, newest):
                self.frames.add(name, stamp * MS, stamp)
        self.demand.observe()

    def observe_often(self, times, begin_ms=10_000, every_ms=207):
        for index in range(times):
            self.observe(begin_ms + index * every_ms)
        return (begin_ms + (times - 1) * every_ms) * MS


def test_every_frame_is_taken_until_two_have_sufficed_for_a_while():
    cameras = Cameras(scene=(33, 10), wrist=(33, 15))
    cameras.observe_often(TRIAL - 1)
    assert cameras.demand.takes_all
    cameras.observe(20_000)
    assert not cameras.demand.takes_all


def test_an_observation_that_is_tried_again_with_the_same_frames_is_no_trial():
    cameras = Cameras(scene=(33, 10), wrist=(33, 15))
    for _ in range(3 * TRIAL):
        cameras.observe(10_000)
    assert cameras.demand.takes_all


@pytest.mark.parametrize(
    "cameras",
    [
        {"scene": (100, 10), "wrist": (16, 10)},
        {"scene": (33, 120), "wrist": (33, 5)},
    ],
    ids=["of different rates", "of different delays"],
)
def test_every_frame_is_taken_while_the_cameras_are(cameras):
    cameras = Cameras(**cameras)
    now = cameras.observe_often(5 * TRIAL)
    assert cameras.demand.takes_all
    assert cameras.demand.wants(now, BLIND)


def test_one_camera_needs_no_other_frame_than_its_newest():
    cameras = Cameras(scene=(33, 10))
    cameras.observe_often(TRIAL)
    assert not cameras.demand.takes_all


def test_a_camera_that_becomes_late_ends_the_sparing_at_once():
    cameras = Cameras(scene=(33, 10), wrist=(33, 15))
    now = cameras.observe_often(TRIAL)
    cameras._cameras["wrist"] = (33, 150)
    cameras.observe(now // MS + 400)
    assert cameras.demand.takes_all


def test_known_frames_are_looked_at_again_before_a_camera_could_count_as_silent():
    cameras = Cameras(scene=(33, 10), wrist=(33, 15))
    cameras.observe_often(TRIAL)
    oldest = cameras.frames.moment_ns
    assert not cameras.demand.wants(oldest + GLANCE_NS - 1, 10 * BLIND)
    assert cameras.demand.wants(oldest + GLANCE_NS, 10 * BLIND)
    assert not cameras.demand.wants(oldest + 374 * MS, BLIND)
    assert cameras.demand.wants(oldest + 375 * MS, BLIND)


def test_frames_are_looked_for_where_a_camera_has_none_and_where_time_was_set_back():
    cameras = Cameras(scene=(33, 10), wrist=(33, 15))
    now = cameras.observe_often(TRIAL)
    assert not cameras.demand.wants(now, BLIND)
    assert cameras.demand.wants(now - 2_000 * MS, BLIND)
    cameras.frames.clear()
    assert cameras.demand.wants(now, BLIND)


STAMPS = st.lists(st.integers(1, 300), min_size=2, max_size=8, unique=True).map(sorted)


@given(scene=STAMPS, wrist=STAMPS)
def test_where_two_frames_suffice_more_would_not_give_a_nearer_set(scene, wrist):
    every, two = CameraFrames(CAMERAS), CameraFrames(CAMERAS)
    for name, stamps in (("scene", scene), ("wrist", wrist)):
        for stamp in stamps:
            every.add(name, stamp * MS, stamp)
        for stamp in stamps[-2:]:
            two.add(name, stamp * MS, stamp)
    wide = {"max_age_ns": 10_000 * MS, "max_skew_ns": 10_000 * MS}
    best, chosen = every.newest_set(300 * MS, **wide), two.newest_set(300 * MS, **wide)
    assert isinstance(best, FrameSet)
    assert isinstance(chosen, FrameSet)
    assert two.moment_ns == every.moment_ns
    if two.two_suffice:
        assert chosen.skew_ns <= max(best.skew_ns, NEAR_NS)
    else:
        assert chosen.skew_ns > NEAR_NS
