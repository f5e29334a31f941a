"""nanoseconds.py: the unit of time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpi_flash_robot.nanoseconds import from_seconds, from_stamp, split, to_seconds


def test_seconds_become_whole_nanoseconds_and_back():
    assert from_seconds(0.02) == 20_000_000
    assert isinstance(from_seconds(1 / 3), int)
    assert to_seconds(1_500_000_000) == pytest.approx(1.5)


@given(st.integers(-(2**62), 2**62))
def test_a_stamp_split_and_joined_is_the_same_and_its_nanoseconds_are_not_negative(nanoseconds):
    sec, nanosec = split(nanoseconds)
    assert 0 <= nanosec < 1_000_000_000
    assert from_stamp(sec, nanosec) == nanoseconds
