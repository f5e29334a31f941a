"""clock_watch.py: a clock that stands still is noticed by one that does not."""

from openpi_flash_robot.bridge.clock_watch import LONGEST_PAUSE_NS, ClockWatch
from openpi_flash_robot.hold import HoldKind

MS = 1_000_000


def test_a_clock_that_goes_on_however_slowly_or_jumps_is_no_problem():
    watch = ClockWatch()
    for index in range(20):
        assert not watch.look(1_000 * MS + index, index * 700 * MS)
        assert watch.problem is None
    for now in (50_000 * MS, 10 * MS, 20 * MS):
        assert not watch.look(now, 20_000 * MS)


def test_a_clock_that_stands_is_found_once_and_named_for_as_long():
    watch = ClockWatch()
    watch.look(5_000 * MS, 0)
    assert not watch.look(5_000 * MS, LONGEST_PAUSE_NS)
    assert watch.problem is None
    assert watch.look(5_000 * MS, 800 * MS)
    assert watch.problem.kind is HoldKind.CLOCK
    assert not watch.look(5_000 * MS, 3_200 * MS)
    assert watch.problem.message.startswith("/clock has been silent for 3.2 s: ROS time stands")
    assert not watch.look(5_001 * MS, 3_210 * MS)
    assert watch.problem is None


def test_a_clock_that_has_not_begun_is_another_problem():
    watch = ClockWatch()
    for steady in (0, 10_000 * MS):
        assert not watch.look(0, steady)
    assert watch.problem is None
