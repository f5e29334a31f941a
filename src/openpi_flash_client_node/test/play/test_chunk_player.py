"""chunk_player.py: which step is due, and when the robot must hold. All time is virtual."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openpi_flash_client_node.hold import Hold, HoldKind
from openpi_flash_client_node.play.chunk_player import Chunk, ChunkPlayer, Targets
from openpi_flash_client_node.play.plan import Plan
from openpi_flash_client_node.settings.node_settings import PlayerSettings

MS = 1_000_000
STEP = 20 * MS
JOINTS = ("shoulder", "elbow")
REST = np.zeros(2)
SETTINGS = PlayerSettings(
    max_chunk_age_ns=0,
    blend_ns=100 * MS,
    max_start_delta=(0.5, 0.5),
    max_velocity=(1.0, 2.0),
    position_lower=(-2.0, -2.0),
    position_upper=(2.0, 2.0),
)
SLOW = np.array([0.01, 0.02])


def ramp(*, steps=50, slope=SLOW, start=REST):
    """Actions [steps, 2] that move by `slope` per step."""
    return start + np.arange(1, steps + 1)[:, np.newaxis] * slope


def chunk(actions=None, *, observed=0, sequence=1, step=STEP):
    return Chunk(ramp() if actions is None else actions, step, observed, sequence)


def player(**changes):
    return ChunkPlayer(JOINTS, dataclasses.replace(SETTINGS, **changes))


def running_player(**changes):
    """A player in the middle of a slow ramp, observed at 0, accepted at 40 ms."""
    playing = player(**changes)
    assert isinstance(playing.accept(chunk(), now=40 * MS, measured=REST), Plan)
    return playing


# --- starting from rest ---


def test_before_the_first_chunk_it_holds_and_says_that_it_waits():
    assert player().step(0) == Hold(HoldKind.WAITING, "waiting for the first chunk")


def test_from_rest_it_starts_at_step_0_one_step_from_now_however_long_inference_took():
    playing = player(blend_ns=0)
    plan = playing.accept(chunk(), now=200 * MS, measured=REST)
    assert plan.first_step == 0
    assert plan.start_ns == 220 * MS
    np.testing.assert_array_equal(playing.step(200 * MS).positions, REST)
    np.testing.assert_allclose(playing.step(220 * MS).positions, SLOW)
    np.testing.assert_allclose(playing.step(230 * MS).positions, 1.5 * SLOW)


def test_from_rest_the_chunk_is_faded_in():
    playing = player(max_velocity=(100.0, 100.0))
    measured = np.array([0.2, -0.2])
    plan = playing.accept(chunk(), now=0, measured=measured)
    np.testing.assert_allclose(plan.positions[0], measured)
    np.testing.assert_allclose(plan.positions[2], 0.6 * measured + 0.4 * ramp()[1])
    np.testing.assert_allclose(plan.positions[5:], ramp()[4:25])  # from 100 ms to the deadline


def test_a_chunk_that_starts_too_far_from_the_measured_position_is_refused():
    playing = player()
    reason = playing.accept(chunk(ramp(start=np.array([0.0, 0.6]))), now=40 * MS, measured=REST)
    assert reason == Hold(
        HoldKind.START_JUMP,
        "chunk 1 starts 0.620 away from the measured position of elbow, max_start_delta is 0.5",
    )
    assert playing.step(40 * MS) == reason


def test_the_start_is_compared_after_the_position_limits():
    playing = player(position_upper=(0.4, 0.4))
    plan = playing.accept(chunk(np.full((50, 2), 3.0)), now=0, measured=REST)
    assert isinstance(plan, Plan)
    assert plan.positions.max() <= 0.4


@pytest.mark.parametrize("measured", [np.array([0.0, np.nan]), np.zeros(3)])
def test_without_a_known_position_it_does_not_start(measured):
    reason = player().accept(chunk(), now=0, measured=measured)
    assert reason == Hold(HoldKind.OBSERVATION, "the measured joint positions are not known")


def test_a_robot_that_came_to_rest_after_the_observation_skips_only_the_steps_it_moved():
    playing = running_player()
    playing.hold(Hold(HoldKind.REQUESTED, "held"), 200 * MS)
    here = np.array([0.08, 0.16])
    plan = playing.accept(
        chunk(ramp(start=np.array([0.04, 0.08])), observed=100 * MS, sequence=2),
        now=500 * MS,
        measured=here,
    )
    assert plan.first_step == 5  # 100 of the 400 ms since the observation it still moved
    assert plan.times_ns[:2].tolist() == [500 * MS, 520 * MS]
    np.testing.assert_array_equal(plan.positions[0], here)


def test_a_robot_at_rest_since_before_the_observation_skips_nothing():
    playing = running_player()
    playing.hold(Hold(HoldKind.REQUESTED, "held"), 200 * MS)
    plan = playing.accept(chunk(observed=200 * MS, sequence=2), now=500 * MS, measured=REST)
    assert plan.first_step == 0


def test_a_plan_that_has_ended_was_at_rest_from_its_end_not_from_when_someone_looked():
    playing = running_player()
    assert isinstance(playing.step(900 * MS), Hold)  # it ended at 500 ms
    plan = playing.accept(chunk(observed=450 * MS, sequence=2), now=910 * MS, measured=REST)
    assert plan.first_step == 2


# --- splicing ---


def test_a_chunk_for_a_moving_robot_drops_the_steps_that_have_passed():
    playing = running_player(blend_ns=0)
    plan = playing.accept(chunk(observed=100 * MS, sequence=2), now=205 * MS, measured=REST)
    assert plan.start_ns == 100 * MS
    assert plan.first_step == 6  # due at 220 ms; step 5 was due at 200 ms
    assert plan.times_ns[:3].tolist() == [205 * MS, 220 * MS, 240 * MS]


def test_a_step_that_is_due_exactly_now_has_passed():
    playing = running_player()
    plan = playing.accept(chunk(observed=100 * MS, sequence=2), now=200 * MS, measured=REST)
    assert plan.first_step == 6


def test_at_the_border_the_command_does_not_move_at_all():
    playing = running_player()
    now = 205 * MS
    before = playing.step(now).positions
    playing.accept(
        chunk(ramp(start=np.array([0.5, -0.5])), observed=100 * MS, sequence=2),
        now=now,
        measured=REST,
    )
    np.testing.assert_array_equal(playing.step(now).positions, before)
    assert playing.step(now).sequence == 2


def test_the_running_plan_fades_into_the_new_chunk_and_is_gone_after_the_blend_time():
    playing = running_player(max_velocity=(100.0, 100.0))
    old = playing.plan
    now = 200 * MS
    new = ramp(start=np.array([0.3, 0.3]))
    plan = playing.accept(chunk(new, observed=100 * MS, sequence=2), now=now, measured=REST)
    halfway = now + 60 * MS  # 0.6 of 100 ms
    step = (halfway - plan.start_ns) // STEP
    np.testing.assert_allclose(
        playing.step(halfway).positions, 0.4 * old.sample(halfway) + 0.6 * new[step]
    )
    done = now + 100 * MS
    step = (done - plan.start_ns) // STEP
    np.testing.assert_allclose(playing.step(done).positions, new[step])


def test_where_the_measured_position_lags_a_splice_still_starts_at_the_commanded_one():
    playing = running_player()
    commanded = playing.step(200 * MS).positions
    plan = playing.accept(
        chunk(observed=100 * MS, sequence=2), now=200 * MS, measured=np.array([-1.0, -1.0])
    )
    np.testing.assert_array_equal(plan.positions[0], commanded)


def test_a_chunk_older_than_the_running_one_stops_the_robot():
    playing = running_player()
    assert isinstance(
        playing.accept(chunk(observed=100 * MS, sequence=2), now=150 * MS, measured=REST), Plan
    )
    reason = playing.accept(chunk(observed=50 * MS, sequence=3), now=160 * MS, measured=REST)
    assert reason == Hold(HoldKind.BAD_CHUNK, "chunk 3 is older than the running chunk 2")


def test_after_an_end_the_next_chunk_starts_from_rest_at_step_0():
    playing = running_player()
    now = 2_000 * MS
    measured = np.array([0.3, 0.3])
    plan = playing.accept(
        chunk(ramp(start=measured), observed=1_900 * MS, sequence=2), now=now, measured=measured
    )
    assert plan.first_step == 0
    np.testing.assert_array_equal(plan.positions[0], measured)


# --- ending ---


def test_it_holds_when_the_observation_is_half_a_chunk_old_unless_told_otherwise():
    playing = running_player()
    assert isinstance(playing.step(500 * MS), Targets)
    assert playing.step(501 * MS) == Hold(
        HoldKind.EXHAUSTED,
        "no newer chunk: the observation of chunk 1 is 0.50 s old and its steps have ended",
    )


def test_max_chunk_age_cuts_the_plan_at_its_deadline():
    playing = running_player(max_chunk_age_ns=300 * MS)
    assert playing.plan.end_ns == 300 * MS
    assert isinstance(playing.step(300 * MS), Targets)
    assert isinstance(playing.step(300 * MS + 1), Hold)


def test_a_long_max_chunk_age_does_not_play_beyond_the_last_step():
    playing = running_player(max_chunk_age_ns=10_000 * MS)
    assert playing.plan.end_ns == 40 * MS + 50 * STEP
    assert isinstance(playing.step(playing.plan.end_ns + 1), Hold)


def test_a_clock_that_is_set_back_stops_the_robot():
    playing = running_player()
    playing.step(200 * MS)
    assert isinstance(playing.step(190 * MS), Targets)  # a clock that is corrected by little
    assert playing.step(100 * MS) == Hold(HoldKind.EXHAUSTED, "the clock was set back by 0.09 s")
    plan = playing.accept(chunk(observed=95 * MS), now=100 * MS, measured=REST)
    assert isinstance(plan, Plan)


def test_once_held_it_stays_held_until_a_new_chunk():
    playing = running_player()
    reason = playing.hold(Hold(HoldKind.REQUESTED, "someone pressed hold"), 50 * MS)
    assert playing.step(60 * MS) == reason
    assert playing.plan is None
    assert isinstance(playing.accept(chunk(observed=50 * MS), now=90 * MS, measured=REST), Plan)


# --- refusing ---


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((50, 3)), "chunk 1 has shape [50, 3], expected [steps, 2]"),
        (np.zeros((0, 2)), "chunk 1 has shape [0, 2], expected [steps, 2]"),
        (np.zeros(2), "chunk 1 has shape [2], expected [steps, 2]"),
    ],
)
def test_a_chunk_of_the_wrong_shape_is_refused_and_stops_a_moving_robot(actions, message):
    playing = running_player()
    assert playing.accept(chunk(actions), now=60 * MS, measured=REST) == Hold(
        HoldKind.BAD_CHUNK, message
    )
    assert isinstance(playing.step(60 * MS), Hold)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_chunk_that_is_not_finite_is_refused_whole_and_named(value):
    actions = ramp()
    actions[49, 1] = value
    assert player().accept(chunk(actions), now=0, measured=REST) == Hold(
        HoldKind.BAD_CHUNK, f"chunk 1 is not finite: step 49 of elbow is {value}"
    )


def test_a_chunk_without_a_step_time_is_refused():
    assert player().accept(chunk(step=0), now=0, measured=REST) == Hold(
        HoldKind.BAD_CHUNK, "chunk 1 has a step of 0 s"
    )


def test_an_answer_later_than_the_whole_chunk_is_refused_even_from_rest():
    assert player().accept(chunk(), now=1_000 * MS, measured=REST) == Hold(
        HoldKind.LATE,
        "chunk 1 came 1.00 s after its observation, later than its last step (1.00 s)",
    )


def test_an_answer_older_than_max_chunk_age_is_refused():
    reason = player(max_chunk_age_ns=250 * MS).accept(chunk(), now=260 * MS, measured=REST)
    assert reason == Hold(
        HoldKind.LATE, "chunk 1 came 0.26 s after its observation, max_chunk_age is 0.25 s"
    )


def test_an_answer_with_no_step_left_before_its_deadline_is_refused():
    reason = player(max_chunk_age_ns=250 * MS).accept(chunk(), now=245 * MS, measured=REST)
    assert reason == Hold(
        HoldKind.LATE,
        "chunk 1 has no step left that is due before its observation is 0.25 s old",
    )


def test_an_observation_from_the_future_is_refused():
    reason = player().accept(chunk(observed=900 * MS), now=0, measured=REST)
    assert reason == Hold(
        HoldKind.BAD_CHUNK,
        "the observation of chunk 1 is 0.90 s in the future; "
        "synchronise the clocks of the cameras and of this computer",
    )


# --- limits ---


def test_a_chunk_faster_than_the_limit_is_cut_and_counted():
    actions = ramp(slope=np.array([0.04, 0.0]))
    plan = player(blend_ns=0).accept(chunk(actions), now=0, measured=REST)
    assert np.abs(np.diff(plan.positions[:, 0])).max() <= 1.0 * 0.02 + 1e-12
    assert plan.limited_steps == len(plan.positions) - 1


def test_new_settings_hold_from_the_next_chunk_on():
    playing = player()
    playing.update_settings(dataclasses.replace(SETTINGS, max_start_delta=(0.001, 0.001)))
    assert playing.accept(chunk(), now=0, measured=REST).kind is HoldKind.START_JUMP


# --- what must hold for every sequence of chunks ---

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
    """Play random chunks; yield (now, outcome of step, whether the robot started from rest)."""
    playing = player(**changes)
    position = REST  # a robot that is always exactly where it was last commanded to be
    now = 0
    for sequence, (wait, latency, seed, kind, held) in enumerate(events, start=1):
        observed = now + wait * MS
        arrival = observed + latency * MS
        while now + tick < arrival:
            now += tick
            outcome = playing.step(now)
            if isinstance(outcome, Targets):
                position = outcome.positions
            yield now, outcome, playing.plan
        now = arrival
        if held:
            playing.hold(Hold(HoldKind.REQUESTED, "held"), now)
        playing.accept(
            chunk(random_actions(seed, kind), observed=observed, sequence=sequence),
            now=now,
            measured=position,
        )
        yield now, playing.step(now), playing.plan
    for _ in range(2_000 * MS // tick):
        now += tick
        yield now, playing.step(now), playing.plan


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
def test_the_command_never_moves_faster_than_the_limit_also_across_borders(events, changes, tick):
    last_now, last = 0, REST
    limit = np.asarray(SETTINGS.max_velocity)
    for now, outcome, _ in simulate(events, tick * MS, **changes):
        if isinstance(outcome, Targets):
            assert np.all(np.abs(outcome.positions - last) <= limit * (now - last_now) / 1e9 + 1e-9)
            last = outcome.positions
        last_now = now


@PROPERTY
@given(events=EVENTS, changes=CHANGES, tick=st.integers(3, 30))
def test_the_command_stays_within_the_position_limits(events, changes, tick):
    for _, outcome, _ in simulate(events, tick * MS, **changes):
        if isinstance(outcome, Targets):
            assert np.all(np.abs(outcome.positions) <= 2.0)


@PROPERTY
@given(events=EVENTS, changes=CHANGES, tick=st.integers(3, 30))
def test_no_chunk_is_played_beyond_its_age(events, changes, tick):
    max_age = changes["max_chunk_age_ns"] or 50 * STEP // 2
    for now, outcome, plan in simulate(events, tick * MS, **changes):
        if isinstance(outcome, Targets):
            assert now - plan.observation_ns <= max_age
            assert np.isfinite(outcome.positions).all()


@PROPERTY
@given(events=EVENTS, changes=CHANGES)
def test_after_the_last_chunk_it_always_comes_to_a_hold_and_stays_there(events, changes):
    outcomes = [outcome for _, outcome, _ in simulate(events, 7 * MS, **changes)]
    assert isinstance(outcomes[-1], Hold)


@PROPERTY
@given(events=EVENTS, changes=CHANGES)
def test_every_plan_is_strictly_ordered_in_time_and_begins_now(events, changes):
    seen = None
    for now, _, plan in simulate(events, 7 * MS, **changes):
        if plan is not None and plan is not seen:
            assert plan.times_ns[0] == now
            assert np.all(np.diff(plan.times_ns) > 0)
            assert plan.times_ns[1] - plan.times_ns[0] <= plan.step_ns
            seen = plan
