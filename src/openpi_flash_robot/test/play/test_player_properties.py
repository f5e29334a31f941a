"""chunk_player.py: what must hold for every sequence of chunks. All time is virtual."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from played_curves import play
from virtual_player import MS, REST, SETTINGS, STEP, chunk, player

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.play.chunk_player import Targets

EVENTS = st.lists(
    st.tuples(
        st.integers(1, 400),  # ms until the observation is taken
        st.integers(1, 900),  # ms until its answer is here
        st.integers(0, 2**32 - 1),  # seed of the chunk
        st.sampled_from(["walk", "jump", "nan", "shape"]),
        st.booleans(),  # someone presses hold before the answer
    ),
    min_size=1,
    max_size=8,
)


def random_actions(seed, kind):
    rng = np.random.default_rng(seed)
    if kind == "shape":
        return rng.normal(size=(50, 3))
    if kind == "jump":
        return rng.normal(scale=1.5, size=(50, 2))
    actions = np.cumsum(rng.normal(scale=0.02, size=(50, 2)), axis=0)
    if kind == "nan":
        actions[rng.integers(50), rng.integers(2)] = np.nan
    return actions


def simulate(events, tick, **changes):
    """Play random chunks; yield (now, outcome of step, plan, what is commanded)."""
    playing = player(**changes)
    now = 0
    for sequence, (wait, latency, seed, kind, held) in enumerate(events, start=1):
        observed = now + wait * MS
        arrival = observed + latency * MS
        while now + tick < arrival:
            now += tick
            yield now, playing.step(now), playing.plan, playing.motion
        now = arrival
        if held:
            playing.hold(Hold(HoldKind.REQUESTED, "held"), now)
        playing.accept(
            chunk(random_actions(seed, kind), observed=observed, sequence=sequence),
            now=now,
            # a robot that is always exactly where it was last commanded to be
            measured=REST if playing.motion is None else playing.motion.sample(now).positions,
        )
        yield now, playing.step(now), playing.plan, playing.motion
    for _ in range(2_000 * MS // tick):
        now += tick
        yield now, playing.step(now), playing.plan, playing.motion


CHANGES = st.fixed_dictionaries(
    {
        "blend_ns": st.sampled_from([0, 50 * MS, 300 * MS]),
        "max_chunk_age_ns": st.sampled_from([0, 120 * MS, 5_000 * MS]),
        "max_start_delta": st.sampled_from([(0.5, 0.5), (10.0, 10.0)]),
    }
)
PROPERTY = settings(max_examples=60, deadline=None, derandomize=True)


@PROPERTY
@given(events=EVENTS, changes=CHANGES, tick=st.integers(3, 30))
def test_what_is_commanded_keeps_to_the_limits_at_every_moment_also_across_borders(
    events, changes, tick
):
    velocity, acceleration = (
        np.asarray(SETTINGS.max_velocity),
        np.asarray(SETTINGS.max_acceleration),
    )
    last = None
    for now, _, _, motion in simulate(events, tick * MS, **changes):
        if motion is None:
            continue
        if last is not None:  # what was commanded until now goes on from there
            before, here = last.sample(now), motion.sample(now)
            np.testing.assert_allclose(here.positions, before.positions, atol=1e-9)
            np.testing.assert_allclose(here.velocities, before.velocities, atol=1e-7)
        if motion is not last:
            played = play(motion)
            assert np.all(np.abs(played.positions) <= 2.0 + 1e-9)
            assert np.all(np.abs(played.velocities) <= velocity * (1 + 1e-6))
            assert np.all(np.abs(played.accelerations) <= acceleration * (1 + 1e-6))
            assert not motion.velocities[-1].any()
            last = motion


@PROPERTY
@given(events=EVENTS, changes=CHANGES, tick=st.integers(3, 30))
def test_no_chunk_is_played_beyond_its_age(events, changes, tick):
    max_age = changes["max_chunk_age_ns"] or 50 * STEP // 2
    for now, outcome, plan, _ in simulate(events, tick * MS, **changes):
        if isinstance(outcome, Targets):
            assert now - plan.observation_ns <= max_age
            assert np.isfinite(outcome.positions).all()


@PROPERTY
@given(events=EVENTS, changes=CHANGES)
def test_after_the_last_chunk_it_always_comes_to_a_hold_and_stands(events, changes):
    now, outcome, _, motion = list(simulate(events, 7 * MS, **changes))[-1]
    assert isinstance(outcome, Hold)
    assert motion is None or motion.end_ns < now


@PROPERTY
@given(events=EVENTS, changes=CHANGES)
def test_every_plan_is_strictly_ordered_in_time(events, changes):
    seen = None
    for now, _, plan, _ in simulate(events, 7 * MS, **changes):
        if plan is not None and plan is not seen:
            assert plan.due_ns[0] > now
            assert np.all(np.diff(plan.due_ns) > 0)
            assert np.all(np.diff(plan.motion.times_ns) > 0)
            seen = plan
