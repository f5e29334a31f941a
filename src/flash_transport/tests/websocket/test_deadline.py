"""Time limits, with the time as an argument."""

import math

import pytest

from flash_transport.deadline import NEVER, Deadline


def test_a_deadline_is_over_when_its_seconds_have_passed():
    deadline = Deadline.after(2.0, now=10.0)
    assert [deadline.is_over(now) for now in (10.0, 11.9, 12.0, 13.0)] == [False, False, True, True]
    assert [deadline.left(now) for now in (10.0, 11.5, 13.0)] == [2.0, 0.5, 0.0]
    assert str(deadline) == "2 s"


@pytest.mark.parametrize("seconds", [None, math.inf])
def test_no_limit_is_never_over(seconds):
    deadline = Deadline.after(seconds, now=10.0)
    assert deadline == NEVER
    assert deadline.is_never
    assert not deadline.is_over(now=1e12)
    assert deadline.left(now=1e12) is None


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan, -math.inf])
def test_a_limit_that_is_no_time_is_refused(seconds):
    with pytest.raises(ValueError, match=f"a number of seconds from 0 up, got {seconds}"):
        Deadline.after(seconds, now=0.0)


def test_the_earlier_of_two_limits_counts():
    deadline = Deadline.after(5.0, now=0.0)
    assert deadline.at_most(3.0, now=1.0) == Deadline.after(3.0, now=1.0)
    assert deadline.at_most(3.0, now=4.0) is deadline
    assert NEVER.at_most(3.0, now=4.0) == Deadline.after(3.0, now=4.0)
