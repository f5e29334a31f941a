"""What holds for every chunk method, whatever a policy answers and when. All time is virtual."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from method_player import (
    HORIZON,
    REST,
    SETTINGS,
    STEP,
    chunk,
    each_method,
    player,
    random_actions,
)
from played_curves import MS, play

from openpi_flash_robot.hold import Hold
from openpi_flash_robot.play.chunk_player import JOIN_NS
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.play.splice.methods import CHUNK_METHODS
from openpi_flash_robot.settings.parameter_table import PARAMETERS

EVENTS = st.lists(
    st.tuples(
        st.integers(20, 700),  # ms from the last arrival to the observation
        st.integers(0, 450),  # ms from there to the arrival
        st.integers(0, 99),
    ),
    min_size=1,
    max_size=6,
)
PROPERTY = settings(max_examples=12, deadline=None, derandomize=True)


def simulate(method, events, **changes):
    """Play random chunks; yield (now, chunk, commanded before, whether by a plan, plan, motion)."""
    playing, now = player(method, **changes), 0
    for sequence, (wait, latency, seed) in enumerate(events, start=1):
        observed = now + wait * MS
        now = observed + latency * MS
        playing.step(now)
        before, was_running = playing.motion, playing.plan is not None
        here = REST if before is None else before.sample(now).positions
        answer = chunk(random_actions(seed), observed, sequence)
        outcome = playing.accept(answer, now=now, measured=here)
        plan = outcome if isinstance(outcome, Plan) else None
        yield now, answer, before, was_running, plan, playing.motion


def test_the_parameter_names_every_method_and_no_other():
    (parameter,) = (one for one in PARAMETERS if one.name == "chunk_method")
    assert set(parameter.choices) == set(CHUNK_METHODS)


@each_method
@PROPERTY
@given(events=EVENTS, horizon=st.sampled_from([0, 3, 12]))
def test_no_method_leaves_the_limits_or_breaks_the_motion_at_a_border(method, events, horizon):
    for now, _, before, _, _, motion in simulate(method, events, execution_horizon=horizon):
        if motion is None:
            continue
        if before is not None:
            # the first lead_ns from now on are what was commanded before
            for at in (now, now + SETTINGS.lead_ns // 2):
                was, here = before.sample(at), motion.sample(at)
                np.testing.assert_allclose(here.positions, was.positions, atol=1e-7)
                np.testing.assert_allclose(here.velocities, was.velocities, atol=1e-5)
        played = play(motion)
        assert np.all(played.positions >= np.asarray(SETTINGS.position_lower) - 1e-9)
        assert np.all(played.positions <= np.asarray(SETTINGS.position_upper) + 1e-9)
        assert np.all(np.abs(played.velocities) <= np.asarray(SETTINGS.max_velocity) * (1 + 1e-6))
        most = np.asarray(SETTINGS.max_acceleration) * (1 + 1e-6)
        assert np.all(np.abs(played.accelerations) <= most)
        assert not motion.velocities[-1].any()


@each_method
@PROPERTY
@given(events=EVENTS)
def test_no_method_plays_a_step_before_its_time_or_beyond_its_age(method, events):
    for now, answer, _, was_running, plan, _ in simulate(method, events):
        if plan is None:
            continue
        steps = plan.first_step + np.arange(len(plan.due_ns))
        np.testing.assert_array_equal(plan.due_ns, plan.start_ns + steps * STEP)
        assert plan.due_ns[0] > now + SETTINGS.lead_ns
        if was_running:
            assert plan.start_ns == answer.observation_ns
        else:
            assert plan.start_ns >= answer.observation_ns
        assert plan.end_ns <= answer.observation_ns + HORIZON * STEP // 2


@each_method
@PROPERTY
@given(events=EVENTS, close_at=st.integers(3, 9))
def test_no_method_mixes_two_positions_of_a_gripper(method, events, close_at):
    """Old chunks hold it open; the last one closes it at one step, and it closes then."""
    quick = {"max_acceleration": (10.0, 5.0, 4e3), "max_velocity": (1.0, 0.5, 99.0)}
    wide = {"position_lower": (-9.0,) * 3, "position_upper": (9.0,) * 3}
    playing, now, sequence = player(method, blend_ns=400 * MS, **quick, **wide), 0, 0
    still = np.zeros((HORIZON, 3))
    for sequence, (_, _, seed) in enumerate(events, start=1):
        actions = random_actions(seed) * [0.05, 0.05, 0]  # slow: limits delay all joints
        earlier = chunk(actions, now, sequence)
        assert isinstance(playing.accept(earlier, now=now, measured=REST), Plan)
        now += 5 * STEP
    still[close_at:, 2] = 1.0
    last = chunk(still, now, sequence + 1)
    plan = playing.accept(last, now=now, measured=REST)
    assert isinstance(plan, Plan)
    closes_ns = plan.start_ns + close_at * STEP
    if plan.due_ns[0] > closes_ns - STEP:  # a border in between draws a line from where it is
        return
    # the mean of a corner begins half a step before it, and a joint needs two points for its speed
    assert plan.motion.sample(closes_ns - STEP - STEP // 2 - 20 * MS).positions[2] < 0.01
    assert plan.motion.sample(closes_ns + 2 * STEP).positions[2] > 0.9


@each_method
def test_in_no_method_an_old_observation_replaces_a_newer_one(method):
    playing = player(method)
    newer = chunk(random_actions(1), 500 * MS, 1)
    assert isinstance(playing.accept(newer, now=520 * MS, measured=REST), Plan)
    commanded = playing.motion
    old = chunk(np.ones((HORIZON, 3)), 480 * MS, 2)
    outcome = playing.accept(old, now=600 * MS, measured=REST)
    assert isinstance(outcome, Hold)
    assert "older than the running chunk" in outcome.message
    until = 600 * MS + SETTINGS.lead_ns
    for at in range(600 * MS, until, 10 * MS):
        np.testing.assert_allclose(
            playing.motion.sample(at).positions, commanded.sample(at).positions, atol=1e-9
        )
    speed = commanded.sample(until).velocities
    farthest = commanded.sample(until).positions + speed * 0.5
    assert np.all(np.abs(playing.motion.positions[-1] - farthest) <= np.abs(speed) * 0.5 + 1e-9)


BEGIN_NS = JOIN_NS + STEP
"""When the step 0 of a first chunk is due that comes at the moment 0."""


def world_line(moments_ns):
    """Where the policy always wants the joints at a moment, from rest on; [K, 3]."""
    seconds = (np.asarray(moments_ns) - BEGIN_NS) / 1e9
    return np.stack(
        [0.3 * np.cos(1.5 * seconds), 0.1 * np.cos(2.0 * seconds), 0.5 - 0.4 * np.cos(seconds)],
        axis=1,
    )


@each_method
@pytest.mark.parametrize("latency", [0, 2 * STEP, 5 * STEP])
def test_chunks_that_agree_are_played_as_one_whatever_the_method(method, latency):
    """Every chunk says the same of a moment, so it does not matter whose step is played."""
    lifted = {"position_lower": (-9.0,) * 3, "position_upper": (9.0,) * 3}
    playing = player(method, max_chunk_age_ns=9_000 * MS, max_velocity=(9.0,) * 3, **lifted)
    here = world_line([BEGIN_NS])[0]
    now = arrival = 0
    for sequence in range(12):
        steps_ns = BEGIN_NS + (np.arange(HORIZON) + 8 * sequence) * STEP
        observed = int(steps_ns[0]) if sequence else 0
        arrival = observed + latency if sequence else 0
        for at in range(max(now, 1_000 * MS), arrival, 20 * MS):  # it has started from rest
            state = playing.motion.sample(at)
            near = world_line([at - MS, at, at + MS])
            np.testing.assert_allclose(state.positions, near[1], atol=1e-3)
            np.testing.assert_allclose(state.velocities, (near[2] - near[0]) / 2e-3, atol=0.02)
        now = arrival
        answer = chunk(world_line(steps_ns), observed, sequence + 1)
        plan = playing.accept(answer, now=now, measured=here)
        assert isinstance(plan, Plan)
        assert plan.start_ns == steps_ns[0]
    assert now > 3_000 * MS
