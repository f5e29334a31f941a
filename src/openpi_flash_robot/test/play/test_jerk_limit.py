"""jerk_limit.py: the mean of a motion keeps its limits and adds one of the jerk.

Also what the chunk player makes of it. All time is virtual; curves are seen every millisecond.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played_curves import MS, limits_of, play

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.play.chunk import Chunk
from openpi_flash_robot.play.chunk_player import ChunkPlayer
from openpi_flash_robot.play.command_window import command_window, window_times
from openpi_flash_robot.play.follow import follow
from openpi_flash_robot.play.jerk_limit import averaged
from openpi_flash_robot.play.joint_limits import brake, can_stop
from openpi_flash_robot.play.motion import MotionState, rest
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.settings.node_settings import PlayerSettings

VELOCITY, ACCELERATION, JERK = 0.5, 5.0, 100.0
HALF = 50 * MS
"""Of 2 x 5 / 100 s."""
LIMITS = limits_of(2)
JOINTS = ("shoulder", "elbow")
REST = np.zeros(2)
STEP = 40 * MS
SETTINGS = PlayerSettings(
    chunk_method="latest",
    ensemble_decay=0.0,
    max_chunk_age_ns=0,
    blend_ns=100 * MS,
    max_start_delta=(9.0, 9.0),
    max_tracking_error=(0.1, 0.1),
    max_velocity=(VELOCITY,) * 2,
    max_acceleration=(ACCELERATION,) * 2,
    position_lower=(-2.0, -2.0),
    position_upper=(2.0, 2.0),
    lead_ns=40 * MS,
    is_commanded=True,
    max_jerk=(JERK,) * 2,
)
REASON = Hold(HoldKind.REQUESTED, "asked")


def swing(seed, *, joints=3):
    """A motion through random points, from rest, within limits that depend on the seed."""
    rng = np.random.default_rng(seed)
    limits = limits_of(
        joints, velocity=rng.choice([0.2, 2.0]), acceleration=rng.choice([1.0, 20.0]), upper=0.4
    )
    points = rng.normal(scale=0.5, size=(12, joints))
    times = np.arange(1, 13) * int(rng.integers(20, 80)) * MS
    start = MotionState.at_rest(rng.uniform(-0.3, 0.3, joints))
    return follow(start, 0, times, points, smoothing_ns=40 * MS, limits=limits), limits


def jerks_of(played):
    return np.diff(played.accelerations, axis=0) / 1e-3


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), half=st.integers(1, 150))
def test_the_mean_keeps_every_limit_and_its_jerk_is_two_accelerations_in_its_width(seed, half):
    motion, limits = swing(seed)
    played = play(averaged(motion, half * MS))
    assert max(played.shares_of(limits)) <= 1.0 + 1e-6
    assert np.all(played.positions <= limits.upper + 1e-9)
    assert np.all(np.abs(jerks_of(played)) <= 2.0 * limits.acceleration / (2e-3 * half) * 1.001)
    for position, velocity in zip(played.positions, played.velocities, strict=True):
        state = MotionState(position, velocity)
        # the mean of states from which joints can stop is one of them
        assert can_stop(state, dataclasses.replace(limits, upper=limits.upper + 1e-9))


def test_the_mean_is_the_mean():
    motion, _ = swing(3)
    mean = averaged(motion, HALF)
    assert (mean.start_ns, mean.end_ns) == (motion.start_ns - HALF, motion.end_ns + HALF)
    for at in range(mean.start_ns, mean.end_ns, 7 * MS):
        around = np.arange(at - HALF, at + HALF + 1, HALF // 1000)
        positions = motion.samples(around)[0]
        wanted = (positions[1:] + positions[:-1]).mean(axis=0) / 2.0
        np.testing.assert_allclose(mean.sample(at).positions, wanted, atol=1e-7)


def test_what_is_left_of_a_motion_has_the_same_mean_as_soon_as_it_is_known():
    motion, _ = swing(5)
    whole, left = averaged(motion, HALF), averaged(motion.since(200 * MS), HALF)
    assert left.start_ns == 250 * MS
    for at in range(250 * MS, whole.end_ns, 3 * MS):
        one, other = whole.sample(at), left.sample(at)
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-12)
        np.testing.assert_allclose(one.velocities, other.velocities, atol=1e-9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), half_us=st.integers(1, 150_000), cut=st.integers(0, 999))
def test_points_that_are_left_out_move_nothing_for_good(seed, half_us, cut):
    """Knots that nearly meet are one; where the motion ends does not depend on it."""
    motion, _ = swing(seed)
    left = motion.since(motion.start_ns + cut * (motion.end_ns - motion.start_ns) // 1000)
    mean = averaged(left, half_us * 1000)
    np.testing.assert_allclose(mean.positions[-1], motion.positions[-1], atol=1e-12)
    assert np.all(np.diff(mean.times_ns) >= 20_000)


def test_rest_and_a_motion_without_a_limit_stay_what_they_are():
    motion, _ = swing(1)
    assert averaged(motion, 0) is motion
    np.testing.assert_array_equal(averaged(rest(REST, 0), HALF).positions, [REST])


def test_the_window_follows_from_the_joint_that_needs_the_longest():
    jerks = (np.inf, 200.0)
    limited = dataclasses.replace(SETTINGS, max_acceleration=(50.0, 5.0), max_jerk=jerks)
    assert limited.smoothing_ns == 50 * MS
    assert dataclasses.replace(SETTINGS, max_jerk=(np.inf, np.inf)).smoothing_ns == 0
    assert dataclasses.replace(SETTINGS, max_jerk=()).smoothing_ns == 0


# --- the chunk player ---


def player(**changes):
    return ChunkPlayer(JOINTS, dataclasses.replace(SETTINGS, **changes))


def chunk(actions, *, observed, sequence=1):
    return Chunk(np.asarray(actions, dtype=np.float64), STEP, observed, sequence)


def ramp(slope, count=25):
    return np.arange(1, count + 1)[:, np.newaxis] * np.asarray(slope)


def shares(motion, begin=None, end=None):
    """Of the limits of velocity, acceleration and jerk."""
    played = play(motion, begin, end)
    return (*played.shares_of(LIMITS), float(np.abs(jerks_of(played)).max() / JERK))


def jumping(side, here):
    return np.tile([0.5 * side, 0.25 * side], (50, 1))


def reversing(side, here):
    there = np.concatenate([np.arange(1, 11), np.arange(9, -31, -1)])
    return here + side * VELOCITY * 0.04 * there[:, np.newaxis] * [1.0, 0.5]


@pytest.mark.parametrize("policy", [jumping, reversing])
def test_start_jumps_reversals_and_a_hold_keep_to_the_limit_of_the_jerk(policy):
    playing, now, seen, side = player(), 0, [], 1.0
    for sequence in range(1, 12):
        here = REST if playing.motion is None else playing.motion.sample(now).positions
        accepted = playing.accept(
            chunk(policy(side, here), observed=now, sequence=sequence),
            now=now + 80 * MS,
            measured=here,
        )
        assert isinstance(accepted, Plan)
        side, now = -side, now + 400 * MS
        seen.append(shares(playing.motion, max(playing.motion.start_ns, now - 320 * MS), now))
    playing.hold(REASON, now)
    seen.append(shares(playing.motion, now))
    velocity, acceleration, jerk = np.max(seen, axis=0)
    assert 0.9 < velocity <= 1.01
    assert 0.9 < acceleration <= 1.05
    assert 0.7 < jerk <= 1.05


def test_the_joints_keep_to_their_path_while_they_speed_up_and_brake():
    playing = player()
    plan = playing.accept(chunk(ramp([0.02, 0.01]), observed=0), now=0, measured=REST)
    played = play(plan.motion)
    np.testing.assert_allclose(played.positions[:, 1], played.positions[:, 0] / 2, atol=1e-9)
    assert played.positions[:, 0].max() > 0.15


def test_a_running_path_is_neither_left_nor_late():
    """The mean is around the moment, and not behind it."""
    playing = player(blend_ns=0)
    path = ramp([0.01, 0.01], 50)
    first = playing.accept(chunk(path, observed=0), now=0, measured=REST)
    on_path = first.motion.sample(first.start_ns + 10 * STEP).positions
    wide = dataclasses.replace(SETTINGS, blend_ns=0, max_jerk=())
    other = ChunkPlayer(JOINTS, wide)
    plain = other.accept(chunk(path, observed=0), now=0, measured=REST)
    there = plain.motion.sample(plain.start_ns + 10 * STEP).positions
    assert first.start_ns == plain.start_ns + HALF
    np.testing.assert_allclose(on_path, there, atol=1e-6)


def test_a_hold_brakes_half_a_window_later_and_takes_a_window_longer():
    ends = {}
    for jerk in ((), (JERK, JERK)):
        playing = player(max_jerk=jerk)
        playing.accept(chunk(ramp([0.02, 0.0], 50), observed=0), now=0, measured=REST)
        playing.hold(REASON, 700 * MS)
        ends[jerk] = playing.motion.end_ns
    assert ends[()] == pytest.approx((700 + 40 + 100) * MS, abs=MS)
    assert ends[(JERK, JERK)] - ends[()] == pytest.approx(2 * HALF, abs=MS)


@pytest.mark.parametrize("jerk", [35.0, 100.0, 1000.0])
def test_without_its_node_an_arm_stands_as_soon_as_without_a_limit_of_the_jerk(jerk):
    """The ramp at a window's end is for the case that nobody commands any more."""
    playing = player(max_jerk=(jerk, jerk), max_chunk_age_ns=2000 * MS)
    playing.accept(chunk(ramp([0.02, 0.02], 50), observed=0), now=0, measured=REST)
    times = window_times(300 * MS, SETTINGS.lead_ns, 20 * MS)
    window = command_window(playing.motion, 1100 * MS, times, playing.limits)
    played = play(window)
    np.testing.assert_allclose(played.velocities[0], VELOCITY, rtol=1e-6)
    assert max(played.shares_of(LIMITS)) <= 1.0 + 1e-6
    assert np.ptp(played.positions[:, 0]) <= 0.1
    assert window.end_ns - 1100 * MS <= 500 * MS


def test_another_limit_of_the_jerk_counts_once_the_robot_stands():
    playing = player()
    playing.accept(chunk(ramp([0.02, 0.02], 50), observed=0), now=0, measured=REST)
    before = playing.motion
    playing.update_settings(dataclasses.replace(SETTINGS, max_jerk=(50.0, 50.0)))
    stopped = playing.step(700 * MS)
    assert stopped.message == (
        "the limit of the jerk has changed; the robot stands before it counts"
    )
    for at in (700 * MS, 740 * MS - 1):
        np.testing.assert_array_equal(
            playing.motion.sample(at).positions, before.sample(at).positions
        )
    assert shares(playing.motion, 700 * MS)[2] <= 1.05
    early = chunk(ramp([0.02, 0.02]), observed=720 * MS, sequence=2)
    assert playing.accept(early, now=740 * MS, measured=REST) == stopped
    stands = playing.motion.end_ns
    here = playing.motion.sample(stands).positions
    late = chunk(here + ramp([0.02, 0.02]), observed=stands, sequence=3)
    assert isinstance(playing.accept(late, now=stands, measured=here), Plan)
    assert 0.2 < shares(playing.motion)[2] <= 0.525  # of 100


def test_after_a_stall_the_window_that_was_played_is_gone_on_with_as_it_is():
    playing = player()
    playing.accept(chunk(ramp([0.02, 0.02], 50), observed=0), now=0, measured=REST)
    there = playing.motion.sample(900 * MS)
    ramp_down = brake(there, 900 * MS, 150 * MS, LIMITS)
    playing.resume_from(ramp_down, REASON, 950 * MS)
    for at in range(950, 1100, 10):
        one, other = playing.motion.sample(at * MS), ramp_down.sample(at * MS)
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-12)
    stands = playing.motion.end_ns
    here = playing.motion.sample(stands).positions
    again = chunk(here + ramp([0.02, 0.02]), observed=stands, sequence=2)
    assert isinstance(playing.accept(again, now=stands, measured=here), Plan)
    assert shares(playing.motion)[2] <= 1.05


def test_a_clock_that_is_set_back_shifts_the_mean():
    playing = player()
    playing.accept(chunk(ramp([0.02, 0.02], 50), observed=0), now=0, measured=REST)
    playing.step(900 * MS)
    before = playing.motion.sample(930 * MS)
    playing.step(890 * MS)
    after = playing.motion.sample(920 * MS)
    np.testing.assert_allclose(after.positions, before.positions, atol=1e-12)
    np.testing.assert_allclose(after.velocities, before.velocities, atol=1e-9)


def test_a_person_leads_the_robot_within_the_limit_of_the_jerk():
    playing, rng = player(), np.random.default_rng(2)
    playing.begin_at(REST, 0)
    seen = []
    for now in range(200, 2000, 20):
        target = rng.uniform(-0.5, 0.5, 2)
        playing.lead_to(now * MS, target)
        seen.append(playing.motion.sample(now * MS).velocities)
        seen += [playing.motion.sample((now + k) * MS).velocities for k in range(1, 20)]
    velocities = np.array(seen)
    jerks = np.diff(velocities, n=2, axis=0) / 1e-6
    assert 0.5 * JERK < np.abs(jerks).max() <= 1.05 * JERK
