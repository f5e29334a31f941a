"""First steps of a chunk, played until the whole one comes: every method, in virtual time."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from method_player import (
    HORIZON,
    METHODS,
    REST,
    SETTINGS,
    STEP,
    chunk,
    each_method,
    player,
    random_actions,
)
from played_curves import MS, play

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.play.plan import Plan

WIDE = {
    "max_velocity": (90.0,) * 3,
    "max_acceleration": (9e4,) * 3,
    "position_lower": (-9.0,) * 3,
    "position_upper": (9.0,) * 3,
}
"""Limits that leave every step where it is."""


def first(whole, steps):
    return dataclasses.replace(whole, actions=whole.actions[:steps])


def smooth(slope, offset):
    """A chunk of slow ramps, which a motion keeps to exactly."""
    ramp = offset + slope * np.arange(HORIZON)[:, np.newaxis]
    return ramp * [1.0, -1.0, 0.0]


def begin(playing, whole, steps, now, measured=REST):
    return playing.accept_first(first(whole, steps), horizon=HORIZON, now=now, measured=measured)


def accept(playing, whole, now, measured=REST):
    return playing.accept(whole, now=now, measured=measured)


PROPERTY = settings(max_examples=25, deadline=None, derandomize=True)
PAIRS = st.lists(
    st.tuples(
        st.integers(20, 900),  # ms from the last arrival to the observation
        st.integers(0, 450),  # ms from there to the first steps
        st.integers(0, 450),  # ms from there to the whole chunk
        st.sampled_from([1, 2, 5, 12, HORIZON]),
        st.sampled_from(["both", "both", "both", "first alone", "whole, then first", "other"]),
        st.integers(0, 99),
    ),
    min_size=1,
    max_size=5,
)


def arrivals(pairs):
    """(now, whole chunk, steps of which come; None: all) in order of time."""
    now = 0
    for sequence, (wait, early, late, steps, what, seed) in enumerate(pairs, start=1):
        observed = now + wait * MS
        whole = chunk(random_actions(seed), observed, sequence)
        at, now = observed + early * MS, observed + (early + late) * MS
        if what == "whole, then first":
            yield at, whole, None
            yield now, whole, steps
            continue
        yield at, whole, steps
        if what == "other":
            # a server that changes what it said is final
            yield now, chunk(random_actions(seed + 1), observed, sequence), None
        elif what == "both":
            yield now, whole, None


@each_method
@PROPERTY
@given(
    pairs=PAIRS,
    horizon=st.sampled_from([0, 3, 12]),
    jerk=st.sampled_from([(), (100.0, 50.0, 400.0)]),
)
def test_no_pair_leaves_the_limits_or_breaks_the_motion(method, pairs, horizon, jerk):
    playing = player(method, execution_horizon=horizon, max_jerk=jerk)
    for now, whole, steps in arrivals(pairs):
        playing.step(now)
        before, plan, reason = playing.motion, playing.plan, playing.look(now)
        here = REST if before is None else before.sample(now).positions
        if steps is None:
            outcome = accept(playing, whole, now, here)
        else:
            outcome = begin(playing, whole, steps, now, here)
            assert outcome is None or isinstance(outcome, Plan)
            if outcome is None:
                assert playing.plan is plan, "nothing changes"
                assert playing.look(now) is reason
        motion = playing.motion
        if motion is None:
            continue
        if before is not None:
            # the first moments from now on are what was commanded before
            for at in (now, now + SETTINGS.lead_ns // 2):
                was, is_now = before.sample(at), motion.sample(at)
                np.testing.assert_allclose(is_now.positions, was.positions, atol=1e-7)
                np.testing.assert_allclose(is_now.velocities, was.velocities, atol=1e-5)
        played = play(motion)
        assert np.all(played.positions >= np.asarray(SETTINGS.position_lower) - 1e-9)
        assert np.all(played.positions <= np.asarray(SETTINGS.position_upper) + 1e-9)
        assert np.all(np.abs(played.velocities) <= np.asarray(SETTINGS.max_velocity) * (1 + 1e-6))
        most = np.asarray(SETTINGS.max_acceleration) * (1 + 1e-6)
        assert np.all(np.abs(played.accelerations) <= most)
        if jerk:
            jerks = np.abs(np.diff(played.accelerations, axis=0)) / 1e-3
            assert np.all(jerks <= 1.02 * np.asarray(jerk))
        assert not motion.velocities[-1].any()
        if isinstance(outcome, Plan):
            taken = outcome.first_step + np.arange(len(outcome.due_ns))
            np.testing.assert_array_equal(outcome.due_ns, outcome.start_ns + taken * STEP)
            assert outcome.due_ns[0] > now + playing.lead_ns
            assert outcome.end_ns <= whole.observation_ns + HORIZON * STEP // 2


@each_method
def test_the_rest_goes_on_at_the_pace_of_the_first_steps(method):
    """From a hold: no step is skipped although the observation is old when the rest comes."""
    whole = chunk(smooth(0.004, 0.0), 100 * MS, 1)
    playing, alone = player(method, **WIDE), player(method, **WIDE)
    began = begin(playing, whole, 6, 200 * MS)
    assert isinstance(began, Plan)
    joined = accept(playing, whole, 300 * MS)
    assert isinstance(joined, Plan)
    assert joined.start_ns == began.start_ns
    at_once = accept(alone, whole, 200 * MS)
    np.testing.assert_array_equal(joined.due_ns, at_once.due_ns[joined.first_step :])
    blended = joined.due_ns[0] + 4 * SETTINGS.blend_ns
    for due in joined.due_ns[joined.due_ns > blended].tolist():
        np.testing.assert_allclose(
            joined.motion.sample(due).positions, at_once.motion.sample(due).positions, atol=1e-3
        )


@each_method
def test_a_chunk_counts_once_where_methods_mix_it_with_those_before(method):
    """On the move: once the fade is over, the pair is what the whole chunk alone would be."""
    ends_soon = {"max_chunk_age_ns": 500 * MS, "execution_horizon": 0}
    results = []
    for is_pair in (True, False):
        playing = player(method, **WIDE, **ends_soon)
        assert isinstance(accept(playing, chunk(smooth(0.002, 0.0), 0, 1), 40 * MS), Plan)
        whole = chunk(smooth(0.002, 0.2), 400 * MS, 2)
        if is_pair:
            assert isinstance(begin(playing, whole, 12, 440 * MS), Plan)
        results.append(accept(playing, whole, 460 * MS))
    pair, alone = results
    assert isinstance(pair, Plan)
    np.testing.assert_array_equal(pair.due_ns, alone.due_ns)
    settled = pair.due_ns[pair.due_ns > 470 * MS + SETTINGS.lead_ns + 2 * SETTINGS.blend_ns]
    assert len(settled) >= 3
    for due in settled.tolist():
        np.testing.assert_allclose(
            pair.motion.sample(due).positions, alone.motion.sample(due).positions, atol=2e-3
        )


@each_method
def test_first_steps_and_then_silence_end_in_a_hold(method):
    playing, whole = player(method), chunk(random_actions(4), 0, 1)
    plan = begin(playing, whole, 5, 40 * MS)
    assert isinstance(plan, Plan)
    assert len(plan.due_ns) <= 5
    assert isinstance(playing.look(plan.end_ns), Plan)
    held = playing.look(plan.end_ns + MS)
    assert isinstance(held, Hold)
    assert held.kind is HoldKind.EXHAUSTED
    # what comes now was observed before the robot held
    assert accept(playing, whole, plan.end_ns + 2 * MS) is None
    assert begin(playing, whole, 5, plan.end_ns + 3 * MS) is None
    stands = playing.motion.sample(playing.motion.end_ns)
    assert not stands.velocities.any()


@each_method
def test_first_steps_and_then_an_error_brake(method):
    playing, whole = player(method), chunk(random_actions(5), 0, 1)
    assert isinstance(begin(playing, whole, 12, 40 * MS), Plan)
    playing.hold(Hold(HoldKind.REFUSED, "the server failed"), 200 * MS)
    assert playing.plan is None
    assert accept(playing, whole, 210 * MS) is None, "the rest of what was given up"


@pytest.mark.parametrize("method", METHODS)
def test_first_steps_that_cannot_be_played_change_nothing(method):
    playing = player(method)
    running = accept(playing, chunk(random_actions(1), 0, 1), 40 * MS)
    assert isinstance(running, Plan)
    whole = chunk(random_actions(2), 200 * MS, 2)
    broken = dataclasses.replace(whole, actions=np.full((HORIZON, 3), np.nan))
    older = dataclasses.replace(whole, observation_ns=-40 * MS)
    ahead = dataclasses.replace(whole, observation_ns=900 * MS)
    for given_first, steps, now in (
        (whole, 2, 240 * MS),  # the running plan lasts longer
        (broken, 12, 240 * MS),
        (older, HORIZON, 240 * MS),
        (ahead, HORIZON, 240 * MS),
        (whole, 5, 500 * MS),  # they have passed
    ):
        assert begin(playing, given_first, steps, now) is None
        assert playing.plan is running
    assert isinstance(accept(playing, whole, 510 * MS), Plan)


def test_first_steps_that_come_after_their_chunk_change_nothing():
    playing, whole = player("latest"), chunk(random_actions(2), 0, 1)
    running = accept(playing, whole, 40 * MS)
    for steps in (1, 5, HORIZON):
        assert begin(playing, whole, steps, 60 * MS) is None
        assert playing.plan is running


def test_first_steps_too_far_from_a_robot_that_holds_leave_the_reason_to_the_chunk():
    playing, far = player("latest", max_start_delta=(0.1,) * 3), chunk(np.ones((HORIZON, 3)), 0, 1)
    reason = playing.look(0)
    assert begin(playing, far, 5, 40 * MS) is None
    assert playing.look(40 * MS) is reason
    assert accept(playing, far, 80 * MS).kind is HoldKind.START_JUMP


def test_a_clock_that_is_set_back_between_the_two_delays_no_takeover():
    playing = player("open_loop", max_chunk_age_ns=500 * MS)
    assert isinstance(accept(playing, chunk(random_actions(1), 0, 1), 40 * MS), Plan)
    whole = chunk(random_actions(2), 400 * MS, 2)
    assert isinstance(begin(playing, whole, 12, 440 * MS), Plan)
    playing.look(410 * MS)
    outcome = accept(playing, whole, 410 * MS)
    assert isinstance(outcome, Plan)
    assert outcome.due_ns[0] <= 410 * MS + SETTINGS.lead_ns + STEP
