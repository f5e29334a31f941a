"""tracking_guard.py: an arm that lags follows; one that stands still or is pushed does not."""

import numpy as np
import pytest

from openpi_flash_robot.hold import HoldKind
from openpi_flash_robot.play.tracking_guard import TrackingGuard

MS = 1_000_000
SPEED = np.array([0.5, -0.5])


@pytest.fixture
def guard():
    return TrackingGuard(("shoulder", "elbow"), (0.05, 0.05), 100 * MS, (True, True))


def check(guard, stamp, measured):
    """Two messages that say the same: one alone may be wrong."""
    guard.check(stamp, measured)
    return guard.check(stamp + 1, measured)


def command(guard, until, begin=0):
    """Commands of a steady motion, 50 a second."""
    for at in range(begin, until + 1, 20 * MS):
        guard.command(at, SPEED * at / 1e9)


def test_before_anything_was_commanded_nothing_is_wrong(guard):
    assert guard.check(0, np.array([3.0, 3.0])) is None
    command(guard, 0, begin=0)
    assert guard.check(-1, np.array([3.0, 3.0])) is None


@pytest.mark.parametrize("lag", [0, 50 * MS, 100 * MS])
def test_an_arm_that_lags_by_the_delay_at_most_follows(guard, lag):
    command(guard, 1_000 * MS)
    for stamp in range(200 * MS, 1_000 * MS, 30 * MS):
        assert guard.check(stamp, SPEED * (stamp - lag) / 1e9) is None


def test_an_arm_that_stands_still_is_named_with_its_distance(guard):
    stuck_at = 400 * MS
    stuck = SPEED * stuck_at / 1e9
    lost = None
    for now in range(0, 1_000 * MS, 20 * MS):
        guard.command(now, SPEED * now / 1e9)
        measured = SPEED * now / 1e9 if now < stuck_at else stuck
        lost = guard.check(now, measured)
        if lost is not None:
            break
    # the delay, and 0.05 rad at 0.5 rad/s
    assert stuck_at + 200 * MS <= now <= stuck_at + 240 * MS
    assert lost.kind is HoldKind.TRACKING
    assert "joint shoulder does not follow: it is 0.0" in lost.message
    assert "max_tracking_error is 0.05" in lost.message


def test_an_arm_that_runs_ahead_or_away_does_not_follow(guard):
    command(guard, 500 * MS)
    assert check(guard, 500 * MS, SPEED * 0.5 + [0.0, -0.06]) is not None
    assert check(guard, 500 * MS, SPEED * 0.5 + [0.06, 0.0]) is not None
    assert check(guard, 500 * MS, SPEED * 0.5 + [0.04, 0.0]) is None


@pytest.mark.parametrize(
    ("max_error", "watched"), [((0.05, 0.0), (True, True)), ((0.05, 0.05), (True, False))]
)
def test_a_joint_without_a_limit_or_a_controller_is_not_watched(max_error, watched):
    guard = TrackingGuard(("shoulder", "elbow"), max_error, 100 * MS, watched)
    command(guard, 500 * MS)
    assert check(guard, 500 * MS, SPEED * 0.5 + [0.0, 3.0]) is None
    assert check(guard, 500 * MS, SPEED * 0.5 + [3.0, 0.0]) is not None


def test_one_wrong_message_is_no_arm_that_does_not_follow(guard):
    command(guard, 500 * MS)
    here = SPEED * 0.5
    assert guard.check(480 * MS, here) is None
    assert guard.check(490 * MS, np.zeros(2) + 3.0) is None
    assert guard.check(490 * MS, np.zeros(2) + 3.0) is None  # the same one again
    assert guard.check(500 * MS, here) is None
    assert guard.check(501 * MS, np.zeros(2) + 3.0) is None
    assert guard.check(502 * MS, np.zeros(2) + 3.0) is not None


def test_a_blocked_arm_is_where_it_was_commanded_to_be_and_a_wrong_message_is_not(guard):
    assert not guard.has_been_near(np.zeros(2))
    command(guard, 1_000 * MS)
    assert guard.has_been_near(SPEED * 0.3)
    assert guard.has_been_near(SPEED * 1.0 + [0.04, 0.0])
    assert not guard.has_been_near(SPEED * 1.0 + [0.06, 0.0])
    assert not guard.has_been_near(np.array([-1.2, 0.0]))


def test_what_is_forgotten_and_what_a_clock_set_back_undoes_counts_no_more(guard):
    command(guard, 500 * MS)
    guard.forget()
    assert guard.check(500 * MS, np.array([3.0, 3.0])) is None
    command(guard, 500 * MS)
    guard.command(100 * MS, np.zeros(2))
    assert guard.check(500 * MS, np.zeros(2)) is None


def test_new_limits_hold_at_once(guard):
    command(guard, 500 * MS)
    guard.update_limits((0.5, 0.5), 100 * MS)
    assert check(guard, 500 * MS, SPEED * 0.5 + [0.4, 0.0]) is None


def test_it_remembers_no_more_than_it_needs(guard):
    command(guard, 60_000 * MS)
    assert len(guard._commands) <= 210
