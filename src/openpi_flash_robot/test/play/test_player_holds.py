"""chunk_player.py comes to a hold: at a plan's end, by new limits, by clocks that are set back."""

import dataclasses

import numpy as np
import pytest
from played_curves import play
from virtual_player import (
    LEAD,
    MS,
    REST,
    SETTINGS,
    STEP,
    chunk,
    held_player,
    player,
    ramp,
    running_player,
)

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.play.chunk_player import JOIN_NS, Targets
from openpi_flash_robot.play.motion import rest
from openpi_flash_robot.play.plan import Plan


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
