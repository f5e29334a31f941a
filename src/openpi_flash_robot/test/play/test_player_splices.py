"""chunk_player.py while it plays: how the next chunk takes over. All time is virtual."""

import numpy as np
from virtual_player import LEAD, MS, NEAR, REST, STEP, chunk, ramp, running_player

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.play.plan import Plan


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
