"""How smooth each method makes a policy whose chunks disagree. All time is virtual."""

import dataclasses

import numpy as np
import pytest
from played_curves import MS, play

from openpi_flash_robot.play.chunk import Chunk
from openpi_flash_robot.play.chunk_player import ChunkPlayer
from openpi_flash_robot.play.motion import Motion
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.settings.node_settings import PlayerSettings

STEP, HORIZON, TICK = 40 * MS, 50, 20 * MS
SECONDS = 8
LOOSE = PlayerSettings(
    chunk_method="latest",
    ensemble_decay=0.0,
    max_chunk_age_ns=2_000 * MS,
    blend_ns=100 * MS,
    max_start_delta=(9.0, 9.0),
    max_tracking_error=(0.1, 0.1),
    max_velocity=(3.0, 3.0),
    max_acceleration=(60.0, 60.0),
    position_lower=(-2.0, -2.0),
    position_upper=(2.0, 2.0),
    lead_ns=40 * MS,
    is_commanded=True,
)


class Policy:
    """A slow swing about zero; each chunk has a mistake of its own, of half a tenth of a radian.

    Asked to go on from a running chunk it keeps its frozen steps, and comes to its own opinion over
    the steps after them, as guidance does (`openpi_flash_models.actions.rtc`).
    """

    def __init__(self):
        self.rng = np.random.default_rng(3)

    def chunk(self, observed, going_on=None):
        moments = (observed + np.arange(HORIZON) * STEP) / 1e9
        swing = np.stack([0.6 * np.sin(1.1 * moments), 0.4 * np.cos(0.9 * moments)], axis=1)
        actions = swing + self.rng.normal(scale=0.05, size=2)
        if going_on is not None:
            previous, delay = going_on.previous_actions[:HORIZON], going_on.delay
            fall = np.clip((np.arange(len(previous)) - delay) / 12.0, 0.0, 1.0)[:, np.newaxis]
            actions[: len(previous)] = (1 - fall) * previous + fall * actions[: len(previous)]
        return actions


def commanded(method, *, latency, every):
    """What is commanded in a few seconds: a curve, and whether the robot ever held."""
    player = ChunkPlayer(("a", "b"), dataclasses.replace(LOOSE, chunk_method=method))
    policy, now, sequence = Policy(), 0, 0
    pieces, held, pending, next_ask = [], 0, None, 0
    while now < SECONDS * 1_000 * MS:
        now += TICK
        if pending is None and now >= next_ask:
            going_on = player.continuation(now, now + latency + LOOSE.lead_ns, every)
            pending = (now + latency, now, policy.chunk(now, going_on))
        if pending is not None and now >= pending[0]:
            sequence += 1
            _, observed, actions = pending
            here = np.zeros(2) if player.motion is None else player.motion.sample(now).positions
            plan = player.accept(Chunk(actions, STEP, observed, sequence), now=now, measured=here)
            assert isinstance(plan, Plan), plan
            pending, next_ask = None, observed + every * STEP
        player.step(now)
        held += player.plan is None and sequence > 0
        if player.motion is not None:
            pieces.append(player.motion.sample(now))
    return np.array([piece.positions for piece in pieces]), held


def roughness(positions):
    """Root mean square of the acceleration, rad/s^2, from the second second on."""
    since = 1_000 * MS // TICK
    acceleration = np.diff(positions[since:], n=2, axis=0) / (TICK / 1e9) ** 2
    return float(np.sqrt(np.mean(acceleration**2)))


@pytest.mark.parametrize("latency", [60 * MS, 160 * MS, 320 * MS])
def test_methods_that_go_on_are_smoother_than_the_newest_chunk_alone(latency):
    rough = {
        method: roughness(commanded(method, latency=latency, every=5)[0])
        for method in ("latest", "temporal_ensemble", "rtc")
    }
    assert rough["rtc"] <= rough["latest"] / 3
    # the later a chunk comes, the fewer others say something of its steps
    assert rough["temporal_ensemble"] <= rough["latest"] / (3 if latency < 300 * MS else 1.5)


@pytest.mark.parametrize("method", ["latest", "temporal_ensemble", "rtc"])
def test_no_method_stops_between_chunks_or_leaves_the_limits(method):
    _, held = commanded(method, latency=160 * MS, every=5)
    assert held == 0


def test_a_gripper_is_neither_faded_nor_averaged():
    grippers = (False, True)
    for method in ("latest", "temporal_ensemble", "rtc"):
        player = ChunkPlayer(("a", "gripper"), dataclasses.replace(LOOSE, chunk_method=method))
        open_hand, closed = np.zeros((HORIZON, 2)), np.ones((HORIZON, 2))
        first = Chunk(open_hand, STEP, 0, 1, grippers=grippers)
        assert isinstance(player.accept(first, now=0, measured=np.zeros(2)), Plan)
        second = Chunk(closed, STEP, 600 * MS, 2, grippers=grippers)
        plan = player.accept(second, now=640 * MS, measured=np.zeros(2))
        assert isinstance(plan, Plan)
        motion: Motion = plan.motion
        later = motion.sample(motion.start_ns + 1_200 * MS).positions
        assert later[1] == pytest.approx(1.0)
        if method == "temporal_ensemble":
            assert later[0] == pytest.approx(0.5, abs=0.01)
        # the hand closes as fast as its limits allow; the joint is drawn towards what was before
        soon = motion.sample(640 * MS + LOOSE.lead_ns + 3 * STEP).positions
        assert soon[1] >= soon[0]
        assert np.abs(play(motion).velocities).max() <= 3.0 * (1 + 1e-6)
