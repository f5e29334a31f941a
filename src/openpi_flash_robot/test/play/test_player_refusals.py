"""chunk_player.py: chunks that it must not play, and limits that it keeps. All time is virtual."""

import dataclasses

import numpy as np
import pytest
from played_curves import play
from virtual_player import MS, REST, SETTINGS, chunk, player, ramp, running_player

from openpi_flash_robot.hold import Hold, HoldKind


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
