"""chunk_player.py: which step is due, and when the robot must hold. All time is virtual."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played_curves import play

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.play.chunk import Chunk
from openpi_flash_robot.play.chunk_player import JOIN_NS, ChunkPlayer, Targets
from openpi_flash_robot.play.motion import rest
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.settings.node_settings import PlayerSettings

MS = 1_000_000
STEP = 20 * MS
JOINTS = ("shoulder", "elbow")
REST = np.zeros(2)
SETTINGS = PlayerSettings(
    chunk_method="latest",
    ensemble_decay=0.0,
    max_chunk_age_ns=0,
    blend_ns=100 * MS,
    max_start_delta=(0.5, 0.5),
    max_tracking_error=(0.1, 0.1),
    max_velocity=(1.0, 2.0),
    max_acceleration=(5.0, 10.0),
    position_lower=(-2.0, -2.0),
    position_upper=(2.0, 2.0),
    lead_ns=40 * MS,
    is_commanded=True,
)
LEAD = SETTINGS.lead_ns
NEAR = {"atol": 1e-6}
"""A path without corners is kept to."""
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
    assert player().motion is None


def test_from_rest_it_starts_at_step_0_however_long_inference_took():
    playing = player(blend_ns=0)
    plan = playing.accept(chunk(), now=200 * MS, measured=REST)
    begin = 200 * MS + JOIN_NS
    assert (plan.first_step, plan.start_ns) == (0, begin + STEP)
    np.testing.assert_array_equal(playing.step(begin).positions, REST)
    # it speeds up from rest, and is then behind the chunk by half of that time
    later = begin + 8 * STEP
    behind = 8 * SLOW - plan.motion.sample(later).positions
    assert np.all(behind > 0)
    assert np.all(behind < 3 * SLOW)


def test_a_controller_that_was_never_commanded_is_given_time_to_come_to_where_the_robot_is():
    playing = player()
    measured = np.array([0.02, -0.03])
    plan = playing.accept(chunk(ramp(start=measured)), now=0, measured=measured)
    assert plan.motion.start_ns == JOIN_NS
    np.testing.assert_array_equal(plan.motion.sample(JOIN_NS).positions, measured)
    assert not plan.motion.sample(JOIN_NS).velocities.any()


def test_from_rest_the_chunk_is_faded_in():
    playing = player(max_velocity=(100.0, 100.0), max_acceleration=(400.0, 400.0))
    measured = np.array([0.2, -0.2])
    plan = playing.accept(chunk(np.tile(REST, (50, 1))), now=0, measured=measured)
    halfway = JOIN_NS + 60 * MS  # 0.6 of 100 ms
    np.testing.assert_allclose(plan.motion.sample(halfway).positions, 0.4 * measured, atol=0.045)
    np.testing.assert_allclose(plan.motion.sample(300 * MS).positions, REST, **NEAR)


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
    assert plan.motion.positions.max() <= 0.4


@pytest.mark.parametrize("measured", [np.array([0.0, np.nan]), np.zeros(3)])
def test_without_a_known_position_it_does_not_start(measured):
    reason = player().accept(chunk(), now=0, measured=measured)
    assert reason == Hold(HoldKind.OBSERVATION, "the measured joint positions are not known")


def held_player(at):
    """A player that was told to hold, and the moment from which on it rests."""
    playing = running_player()
    playing.hold(Hold(HoldKind.REQUESTED, "held"), at)
    return playing, playing.motion.end_ns


def test_a_robot_that_came_to_rest_after_the_observation_skips_only_the_steps_it_moved():
    playing, stood = held_player(300 * MS)
    here = playing.motion.sample(stood).positions
    observed = stood - 105 * MS
    plan = playing.accept(
        chunk(ramp(start=here), observed=observed, sequence=2), now=stood + 100 * MS, measured=here
    )
    assert plan.first_step == 5  # it still moved for 105 ms since the observation
    np.testing.assert_array_equal(plan.motion.sample(stood + 100 * MS).positions, here)


def test_a_robot_at_rest_since_before_the_observation_skips_nothing():
    playing, stood = held_player(300 * MS)
    here = playing.motion.sample(stood).positions
    plan = playing.accept(
        chunk(ramp(start=here), observed=stood, sequence=2), now=stood + 100 * MS, measured=here
    )
    assert plan.first_step == 0


def test_a_plan_that_has_ended_was_at_rest_from_its_end_not_from_when_someone_looked():
    playing = running_player()
    assert isinstance(playing.step(900 * MS), Hold)  # it ended at 500 ms, and braked
    stood = playing.motion.end_ns
    assert 500 * MS < stood < 720 * MS
    here = playing.motion.sample(stood).positions
    plan = playing.accept(
        chunk(ramp(start=here), observed=stood - 30 * MS, sequence=2), now=910 * MS, measured=here
    )
    assert plan.first_step == 1


def test_from_a_hold_it_starts_where_it_was_commanded_to_hold_not_where_it_sags_to():
    playing, stood = held_player(300 * MS)
    here = playing.motion.sample(stood).positions
    sagged = here - 0.05
    plan = playing.accept(
        chunk(ramp(start=here), observed=stood, sequence=2), now=stood + 100 * MS, measured=sagged
    )
    np.testing.assert_array_equal(plan.motion.sample(stood + 100 * MS).positions, here)


def test_a_robot_that_was_moved_by_hand_while_it_held_starts_where_it_is_measured():
    playing, stood = held_player(300 * MS)
    moved = playing.motion.sample(stood).positions + 0.3
    plan = playing.accept(
        chunk(ramp(start=moved), observed=stood, sequence=2), now=stood + 100 * MS, measured=moved
    )
    np.testing.assert_array_equal(plan.motion.sample(stood + 100 * MS).positions, moved)
    assert plan.motion.start_ns == stood + 100 * MS + JOIN_NS


def test_in_a_dry_run_it_always_starts_where_the_robot_is_measured():
    playing = running_player(is_commanded=False)
    playing.hold(Hold(HoldKind.REQUESTED, "held"), 300 * MS)
    plan = playing.accept(chunk(observed=500 * MS, sequence=2), now=600 * MS, measured=REST)
    np.testing.assert_array_equal(plan.motion.sample(600 * MS).positions, REST)


def test_a_gripper_that_holds_something_starts_from_its_command_and_keeps_its_grip():
    """The elbow is a gripper: commanded to close to 1.0, it holds a cube at 0.4."""
    closed = np.array([0.0, 1.0])
    playing = player(max_tracking_error=(0.1, 0.0), max_start_delta=(0.3, 0.3))
    playing.accept(chunk(np.tile([0.0, 0.2], (50, 1))), now=0, measured=np.array([0.0, 0.2]))
    moving = ramp(slope=np.array([0.0, 0.04]), start=np.array([0.0, 0.2]))
    actions = np.minimum(moving, closed)
    playing.accept(chunk(actions, observed=100 * MS, sequence=2), now=200 * MS, measured=REST)
    playing.step(590 * MS)
    playing.hold(Hold(HoldKind.REQUESTED, "held"), 590 * MS)
    held = playing.motion.positions[-1]
    assert held[1] > 0.8
    measured = np.array([0.0, 0.4])
    plan = playing.accept(
        chunk(np.tile(closed, (50, 1)), observed=1_000 * MS, sequence=3),
        now=1_100 * MS,
        measured=measured,
    )
    assert isinstance(plan, Plan)
    assert plan.motion.positions[:, 1].min() >= held[1] - 1e-9


@pytest.mark.parametrize(
    ("changes", "position", "distance"),
    [({}, "commanded", 0.76), ({"is_commanded": False}, "measured", 0.6)],
)
def test_a_gripper_that_would_jump_is_refused_by_the_position_it_is_compared_with(
    changes, position, distance
):
    playing = player(max_tracking_error=(0.1, 0.0), max_start_delta=(0.5, 0.5), **changes)
    closed = np.array([0.0, 0.4])
    playing.accept(chunk(np.tile(closed, (50, 1))), now=0, measured=closed)
    playing.step(990 * MS)
    playing.hold(Hold(HoldKind.REQUESTED, "held"), 990 * MS)
    held = playing.motion.positions[-1, 1]
    measured = np.array([0.0, 0.24])
    actions = np.tile([0.0, -0.36], (50, 1))
    reason = playing.accept(
        chunk(actions, observed=1_500 * MS, sequence=2), now=1_600 * MS, measured=measured
    )
    assert held == pytest.approx(0.4)
    assert reason == Hold(
        HoldKind.START_JUMP,
        f"chunk 2 starts {distance:.3f} away from the {position} position of elbow, "
        "max_start_delta is 0.5",
    )


# --- splicing ---


def test_a_chunk_for_a_moving_robot_drops_the_steps_that_are_due_before_it_takes_over():
    playing = running_player(blend_ns=0)
    plan = playing.accept(chunk(observed=100 * MS, sequence=2), now=205 * MS, measured=REST)
    assert plan.start_ns == 100 * MS
    assert plan.first_step == 8  # due at 260 ms; step 7 is due at 240 ms, before 245 ms
    assert plan.due_ns[:2].tolist() == [260 * MS, 280 * MS]


def test_a_step_that_is_due_exactly_when_it_takes_over_has_passed():
    playing = running_player()
    plan = playing.accept(chunk(observed=100 * MS, sequence=2), now=200 * MS, measured=REST)
    assert plan.first_step == 8


def test_until_a_chunk_takes_over_what_was_commanded_before_goes_on():
    playing = running_player()
    now = 205 * MS
    old = playing.plan
    playing.accept(
        chunk(ramp(start=np.array([0.5, -0.5])), observed=100 * MS, sequence=2),
        now=now,
        measured=REST,
    )
    for at in range(now, now + LEAD + 1, 5 * MS):
        before, after = old.motion.sample(at), playing.plan.motion.sample(at)
        np.testing.assert_allclose(after.positions, before.positions, atol=1e-12)
        np.testing.assert_allclose(after.velocities, before.velocities, atol=1e-9)
    assert playing.step(now).sequence == 2


def test_the_running_plan_fades_into_the_new_chunk_and_is_gone_after_the_blend_time():
    playing = running_player(max_velocity=(100.0, 100.0), max_acceleration=(400.0, 400.0))
    old = playing.plan
    now = 200 * MS
    new = np.tile(np.array([0.3, 0.3]), (50, 1))
    plan = playing.accept(chunk(new, observed=100 * MS, sequence=2), now=now, measured=REST)
    halfway = now + LEAD + 60 * MS  # 0.6 of 100 ms
    np.testing.assert_allclose(
        plan.motion.sample(halfway).positions,
        0.4 * old.motion.sample(halfway).positions + 0.6 * new[0],
        atol=0.03,
    )
    done = now + LEAD + 100 * MS + 2 * STEP
    np.testing.assert_allclose(plan.motion.sample(done).positions, new[0], **NEAR)


def test_where_the_measured_position_lags_a_splice_still_starts_at_the_commanded_one():
    playing = running_player()
    commanded = playing.step(200 * MS).positions
    plan = playing.accept(
        chunk(observed=100 * MS, sequence=2), now=200 * MS, measured=np.array([-1.0, -1.0])
    )
    np.testing.assert_allclose(plan.motion.sample(200 * MS).positions, commanded, atol=1e-12)


def test_a_chunk_older_than_the_running_one_stops_the_robot():
    playing = running_player()
    assert isinstance(
        playing.accept(chunk(observed=100 * MS, sequence=2), now=150 * MS, measured=REST), Plan
    )
    reason = playing.accept(chunk(observed=50 * MS, sequence=3), now=160 * MS, measured=REST)
    assert reason == Hold(HoldKind.BAD_CHUNK, "chunk 3 is older than the running chunk 2")


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
    assert playing.plan.end_ns == 40 * MS + JOIN_NS + 50 * STEP
    assert isinstance(playing.step(playing.plan.end_ns + 1), Hold)


def test_a_hold_brakes_along_the_plan_and_never_backwards():
    playing = running_player()
    old, now = playing.plan, 300 * MS
    playing.hold(Hold(HoldKind.REQUESTED, "held"), now)
    braking = playing.motion
    begin = now + SETTINGS.lead_ns
    start = old.motion.sample(begin)
    hardest = (start.velocities / np.asarray(SETTINGS.max_acceleration)).max()
    assert braking.end_ns - begin == pytest.approx(hardest * 1e9, abs=1)
    np.testing.assert_allclose(braking.sample(begin).velocities, start.velocities, atol=1e-9)
    path = [braking.sample(at).positions for at in range(now, braking.end_ns + MS, MS)]
    assert np.diff(path, axis=0).min() >= -1e-12
    end = braking.sample(braking.end_ns)
    np.testing.assert_allclose(
        end.positions, start.positions + start.velocities * hardest / 2, atol=1e-9
    )
    assert not end.velocities.any()


def test_a_clock_that_is_set_back_stops_the_robot_where_it_is():
    playing = running_player()
    playing.step(200 * MS)
    assert isinstance(playing.step(190 * MS), Targets)  # a clock that is corrected by little
    here = playing.motion.sample(190 * MS)
    assert playing.step(100 * MS) == Hold(HoldKind.EXHAUSTED, "the clock was set back by 0.09 s")
    np.testing.assert_allclose(
        playing.motion.sample(100 * MS).positions, here.positions, atol=1e-12
    )
    assert playing.motion.end_ns < 400 * MS
    plan = playing.accept(chunk(observed=100 * MS), now=110 * MS, measured=REST)
    assert isinstance(plan, Plan)


def test_a_clock_that_is_set_back_while_the_robot_rests_moves_nothing():
    playing, stood = held_player(300 * MS)
    here = playing.motion.sample(stood).positions
    playing.step(10_000 * MS)
    playing.step(100 * MS)
    np.testing.assert_array_equal(playing.motion.sample(100 * MS).positions, here)


def test_once_held_it_stays_held_until_a_new_chunk():
    playing = running_player()
    reason = playing.hold(Hold(HoldKind.REQUESTED, "someone pressed hold"), 50 * MS)
    assert playing.step(60 * MS) == reason
    assert playing.plan is None
    assert isinstance(playing.accept(chunk(observed=50 * MS), now=90 * MS, measured=REST), Plan)


def test_an_arm_that_did_not_follow_is_led_back_to_within_the_limits():
    playing, stood = held_player(300 * MS)
    here = playing.motion.sample(stood).positions
    measured = here - np.array([0.2, 0.3])
    assert not playing.lead_back(stood - MS, measured)  # it still moves
    assert playing.lead_back(stood + 100 * MS, measured)
    assert not playing.is_braking
    played = play(playing.motion)
    np.testing.assert_allclose(played.positions[-1], measured, atol=1e-9)
    assert np.all(np.abs(played.velocities) <= np.asarray(SETTINGS.max_velocity) * (1 + 1e-6))
    assert not playing.lead_back(playing.motion.end_ns, measured)  # it is there


def test_nothing_is_led_to_where_nobody_knows():
    playing, stood = held_player(300 * MS)
    here = playing.motion.sample(stood).positions
    assert not playing.lead_back(stood + 100 * MS, np.array([np.nan, 0.0]))
    np.testing.assert_array_equal(playing.motion.sample(stood + 900 * MS).positions, here)


def test_a_gripper_keeps_its_command_when_the_arm_is_led_back():
    playing = player(max_tracking_error=(0.1, 0.0))
    playing.accept(chunk(), now=40 * MS, measured=REST)
    playing.hold(Hold(HoldKind.REQUESTED, "held"), 300 * MS)
    stood = playing.motion.end_ns
    here = playing.motion.sample(stood).positions
    assert playing.lead_back(stood + 100 * MS, here - 0.2)
    np.testing.assert_allclose(playing.motion.positions[-1], here - [0.2, 0.0], atol=1e-9)


def test_a_hold_brakes_what_leads_back_too():
    playing, stood = held_player(300 * MS)
    here = playing.motion.sample(stood).positions
    playing.lead_back(stood + 100 * MS, here - np.array([0.3, 0.0]))
    now = stood + 250 * MS
    speed = playing.motion.sample(now + LEAD).velocities
    assert speed[0] < -0.2
    playing.hold(Hold(HoldKind.REQUESTED, "held"), now)
    assert playing.is_braking
    assert playing.motion.end_ns < now + LEAD + 250 * MS
    assert playing.motion.positions[-1][0] > here[0] - 0.25


def test_a_hold_while_controllers_come_to_the_robot_leaves_them_their_time():
    playing = player()
    measured = np.array([0.3, 0.0])
    playing.accept(chunk(ramp(start=measured)), now=0, measured=measured)
    playing.hold(Hold(HoldKind.REQUESTED, "held"), 10 * MS)
    assert playing.motion.start_ns == JOIN_NS


def test_a_clock_that_is_set_back_by_little_moves_what_is_commanded_along():
    playing = running_player()
    playing.accept(chunk(observed=100 * MS, sequence=2), now=200 * MS, measured=REST)
    playing.step(240 * MS)
    before = playing.motion.sample(240 * MS)
    for set_back in (1, 15 * MS):
        playing.step(240 * MS - set_back)
        here = playing.motion.sample(240 * MS - set_back)
        np.testing.assert_allclose(here.velocities, before.velocities, atol=1e-6)
        np.testing.assert_allclose(here.positions, before.positions, atol=1e-6)
        playing.step(240 * MS)
        before = playing.motion.sample(240 * MS)
    assert playing.plan is not None


def test_narrower_limits_stop_the_running_plan_and_brake_as_hard_as_before():
    playing = running_player()
    playing.step(300 * MS)
    speed = playing.motion.sample(300 * MS + LEAD).velocities
    soft = dataclasses.replace(SETTINGS, max_velocity=(0.1, 0.1), max_acceleration=(0.5, 0.5))
    playing.update_settings(soft)
    assert playing.step(301 * MS).message == "the limits have become narrower"
    hardest = (speed / np.asarray(SETTINGS.max_acceleration)).max()
    assert playing.motion.end_ns <= 301 * MS + LEAD + round(hardest * 1e9) + 5 * MS
    stood = playing.motion.end_ns
    here = playing.motion.sample(stood).positions
    plan = playing.accept(
        chunk(ramp(start=here), observed=stood, sequence=2), now=stood + MS, measured=here
    )
    assert np.abs(play(plan.motion).velocities).max() <= 0.1 + 1e-9


@pytest.mark.parametrize("is_braking", [True, False])
def test_a_speed_of_harder_limits_is_braked_as_hard_after_the_next_chunks_too(is_braking):
    """At 1 rad/s and 5 rad/s^2 the shoulder stops in 0.1 rad; at 0.5 rad/s^2 it needs 1 rad."""
    playing = player(max_chunk_age_ns=2_000 * MS)
    fast = np.array([0.02, 0.0])
    near_the_end = np.array([1.2, 0.0])
    playing.accept(chunk(ramp(start=near_the_end, slope=fast)), now=0, measured=near_the_end)
    now = 600 * MS
    playing.step(now)
    assert playing.motion.sample(now).velocities[0] > 0.95
    if is_braking:
        playing.hold(Hold(HoldKind.REQUESTED, "held"), now)
    playing.update_settings(
        dataclasses.replace(SETTINGS, max_acceleration=(0.5, 0.5), max_chunk_age_ns=2_000 * MS)
    )
    for sequence in (2, 3):
        now += 45 * MS
        here = playing.motion.sample(now).positions
        plan = playing.accept(
            chunk(ramp(start=here, slope=fast), observed=now - MS, sequence=sequence),
            now=now,
            measured=here,
        )
        assert isinstance(plan, Plan)
        assert playing.motion.sample(now + 2 * LEAD).velocities[0] > 0.5
    playing.hold(Hold(HoldKind.REQUESTED, "held"), now + 50 * MS)
    assert playing.motion.positions[:, 0].max() <= SETTINGS.position_upper[0]


def test_softer_limits_hold_from_the_first_chunk_on_that_can_be_braked_by_them():
    playing = running_player()
    soft = dataclasses.replace(SETTINGS, max_acceleration=(0.5, 0.5))
    playing.update_settings(soft)
    np.testing.assert_array_equal(playing.limits.acceleration, SETTINGS.max_acceleration)
    playing.accept(chunk(observed=300 * MS, sequence=2), now=340 * MS, measured=REST)
    np.testing.assert_array_equal(playing.limits.acceleration, soft.max_acceleration)


def test_limits_that_change_twice_brake_by_those_that_the_robot_moved_under():
    playing = running_player()
    for acceleration in (100.0, 1.0, 0.5):
        playing.update_settings(
            dataclasses.replace(SETTINGS, max_acceleration=(acceleration, acceleration))
        )
    np.testing.assert_array_equal(playing.limits.acceleration, SETTINGS.max_acceleration)


def test_wider_limits_stop_nothing():
    playing = running_player()
    playing.update_settings(dataclasses.replace(SETTINGS, max_velocity=(2.0, 2.0)))
    assert isinstance(playing.step(300 * MS), Targets)


def test_what_controllers_played_without_this_process_is_where_it_goes_on_from():
    playing = running_player()
    stood = np.array([0.11, 0.22])
    reason = Hold(HoldKind.EXHAUSTED, "stopped")
    assert playing.resume_from(rest(stood, 400 * MS), reason, 2_000 * MS) == reason
    assert playing.step(2_000 * MS) == reason
    np.testing.assert_array_equal(playing.motion.sample(2_000 * MS).positions, stood)


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


def test_a_chunk_faster_than_the_limit_takes_longer_on_the_same_path_and_is_counted():
    actions = ramp(slope=np.array([0.04, 0.02]))  # 2 rad/s where 1 is allowed
    plan = player(blend_ns=0).accept(chunk(actions), now=0, measured=REST)
    played = play(plan.motion)
    assert played.velocities[:, 0].max() == pytest.approx(1.0, rel=1e-3)
    np.testing.assert_allclose(played.positions[:, 0], 2.0 * played.positions[:, 1], atol=5e-4)
    assert plan.limited_steps >= 10  # all but those of the braking at the end


def test_a_chunk_within_the_limits_counts_no_limited_step():
    playing = running_player(blend_ns=0, max_chunk_age_ns=2_000 * MS)
    on_path = ramp(start=playing.plan.motion.sample(380 * MS).positions)
    plan = playing.accept(
        chunk(on_path, observed=400 * MS, sequence=2), now=445 * MS, measured=REST
    )
    assert plan.limited_steps == 0


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
