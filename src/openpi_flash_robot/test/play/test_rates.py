"""chunk_player.py: axes whose numbers say how fast to go: velocities, deltas, twists."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.play.chunk import Chunk
from openpi_flash_robot.play.chunk_player import ChunkPlayer
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.settings.node_settings import PlayerSettings

MS = 1_000_000
STEP = 50 * MS
SECOND = 1_000 * MS
SETTINGS = PlayerSettings(
    chunk_method="latest",
    ensemble_decay=0.01,
    max_chunk_age_ns=SECOND,
    blend_ns=100 * MS,
    max_start_delta=(0.1,),
    max_tracking_error=(0.0,),
    max_velocity=(1.0,),
    max_acceleration=(4.0,),
    position_lower=(-np.inf,),
    position_upper=(np.inf,),
    lead_ns=40 * MS,
    is_commanded=True,
    measured=(False,),
)


def chunk(speed, *, observed, sequence, steps=20):
    """So fast for the whole chunk, or at each step, in units a second."""
    speeds = np.broadcast_to(np.asarray(speed, dtype=float), (steps,))
    return Chunk(
        actions=speeds[:, np.newaxis] * STEP / SECOND,
        step_ns=STEP,
        observation_ns=observed,
        sequence=sequence,
        rates=(True,),
    )


def play(speeds, *, every_ns=400 * MS, latency_ns=100 * MS, **changes):
    """Play one chunk after the other; times [K] and speeds [K] of what is commanded."""
    player = ChunkPlayer(("x",), dataclasses.replace(SETTINGS, **changes))
    heard = []
    for number, speed in enumerate(speeds):
        taken = number * every_ns + latency_ns
        given_chunk = chunk(speed, observed=number * every_ns, sequence=number + 1)
        plan = player.accept(given_chunk, now=taken, measured=np.zeros(1))
        assert isinstance(plan, Plan), plan
        until = (number + 1) * every_ns + latency_ns
        for now in range(taken, until, 5 * MS):
            state = player.motion.sample(now)
            heard.append((now, state.positions[0], state.velocities[0]))
    return player, np.array(heard)


def test_the_policys_speed_is_reached_and_never_passed_to_catch_up_what_was_lost():
    _, heard = play([0.3] * 5)
    assert heard[:, 2].max() <= 0.3 + 1e-6
    np.testing.assert_allclose(heard[heard[:, 0] > 500 * MS, 2], 0.3, atol=1e-3)


@pytest.mark.parametrize("lost_ns", [100 * MS, 300 * MS])
def test_a_late_chunk_goes_on_with_its_speed_from_where_the_axis_is(lost_ns):
    _, heard = play([0.3, 0.3, 0.3], latency_ns=lost_ns)
    assert heard[:, 2].max() <= 0.3 + 1e-6
    assert heard[heard[:, 0] > SECOND, 2].min() > 0.29


def test_a_change_of_direction_keeps_to_the_acceleration():
    _, heard = play([0.4, -0.4, 0.4])
    change = np.abs(np.diff(heard[:, 2])) / (5 * MS / SECOND)
    assert change.max() <= 4.0 * 1.05
    assert heard[:, 2].min() == pytest.approx(-0.4, abs=1e-3)


@given(st.lists(st.floats(-2.0, 2.0), min_size=2, max_size=6))
def test_no_chunk_makes_it_faster_than_its_limits(speeds):
    _, heard = play(speeds)
    assert np.abs(heard[:, 2]).max() <= 1.0 + 1e-6
    change = np.abs(np.diff(heard[:, 2])) / (5 * MS / SECOND)
    assert change.max() <= 4.0 * 1.05


def test_a_hold_brakes_to_rest_and_the_next_chunk_starts_from_there():
    player, heard = play([0.5, 0.5])
    now = int(heard[-1, 0])
    player.hold(Hold(HoldKind.REQUESTED, "held"), now)
    stood = player.motion.end_ns
    assert stood - now < 400 * MS
    assert player.motion.sample(stood).velocities == 0.0
    again = chunk(0.2, observed=stood + SECOND, sequence=9)
    plan = player.accept(again, now=stood + SECOND + 50 * MS, measured=np.zeros(1))
    assert isinstance(plan, Plan)
    assert np.abs(plan.motion.velocities).max() <= 0.2 + 1e-6


def test_a_slow_chunk_does_not_slow_down_the_person_who_takes_the_robot():
    player, heard = play([0.02])
    now = int(heard[-1, 0])
    player.hold(Hold(HoldKind.REQUESTED, "taken"), now)
    now = player.motion.end_ns
    player.lead_to(now, np.array([1.0]))
    assert np.abs(player.motion.velocities).max() == pytest.approx(1.0, rel=0.05)


def test_the_whole_way_of_a_chunk_of_deltas_is_gone_but_for_the_ramps():
    player, _ = play([0.4], every_ns=SECOND, max_chunk_age_ns=2 * SECOND)
    gone = player.motion.positions[-1, 0]
    assert gone == pytest.approx(0.4 * 20 * STEP / SECOND, rel=0.15)


def test_a_continuation_says_rates_as_rates():
    player, heard = play([0.3, 0.3], chunk_method="rtc")
    now = int(heard[-1, 0])
    found = player.continuation(now, now + 100 * MS, 8)
    np.testing.assert_allclose(found.previous_actions, 0.3 * STEP / SECOND, atol=1e-9)


def test_a_velocity_starts_where_the_axis_is_though_its_number_is_outside_the_position_limits():
    settings = dataclasses.replace(
        SETTINGS, position_lower=(-3.0,), position_upper=(-0.2,), measured=(True,)
    )
    player = ChunkPlayer(("x",), settings)
    plan = player.accept(chunk(0.3, observed=0, sequence=1), now=0, measured=np.array([-2.0]))
    assert isinstance(plan, Plan), plan
    assert plan.motion.positions[0] == -2.0
    assert plan.motion.positions[-1, 0] > -1.9
