"""ring.py: what it keeps, and what it never grows to."""

import numpy as np
import pytest

from openpi_flash_robot.black_box.ring import ENTRY_BYTES, Moment, Ring

SECOND = 1_000_000_000


def moment(seconds):
    return Moment(round((100 + seconds) * SECOND), round(seconds * SECOND))


def test_what_is_older_than_its_length_is_dropped_and_nothing_else():
    ring = Ring(60 * SECOND, 1_000_000)
    for second in range(100):
        ring.add(moment(second), 10, second)
    assert [item for *_, item in ring.snapshot()] == list(range(39, 100))
    assert ring.dropped == 0
    assert ring.bytes == 61 * (10 + ENTRY_BYTES)


def test_an_entry_has_both_clocks_and_the_age_counts_on_the_steady_one():
    ring = Ring(10 * SECOND, 1_000_000)
    ring.add(Moment(5_000, 1 * SECOND), 0, "simulated time stands still")
    ring.add(Moment(5_000, 12 * SECOND), 0, "later")
    ((ros_ns, steady_ns, _, item),) = ring.snapshot()
    assert (ros_ns, steady_ns, item) == (5_000, 12 * SECOND, "later")


def test_an_hour_of_a_busy_robot_takes_no_more_than_a_minute_of_it():
    ring = Ring(60 * SECOND, 10_000_000)
    most = 0
    for tick in range(60 * 60 * 20):
        ring.add(moment(tick / 20), 100, tick)
        most = max(most, len(ring))
    assert most == len(ring) == 60 * 20 + 1


def test_a_flood_is_bounded_by_bytes_and_keeps_the_newest(rng: np.random.Generator):
    ring = Ring(60 * SECOND, 1_000_000)
    for index, size in enumerate(rng.integers(0, 20_000, 10_000)):
        ring.add(moment(index * 1e-4), int(size), index)
        assert ring.bytes <= 1_000_000
    entries = ring.snapshot()
    assert entries[-1][3] == 9_999
    assert ring.bytes == sum(size for _, _, size, _ in entries)
    assert ring.dropped == 10_000 - len(entries)


@pytest.mark.parametrize("size", [1_000_000, 10**12])
def test_an_item_larger_than_the_ring_is_not_kept_and_drives_nothing_out(size):
    ring = Ring(60 * SECOND, 1_000_000)
    ring.add(moment(0), 10, "small")
    ring.add(moment(1), size, "huge")
    assert [item for *_, item in ring.snapshot()] == ["small"]
    assert ring.dropped == 1
