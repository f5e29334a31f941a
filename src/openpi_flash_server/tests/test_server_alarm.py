"""alarm.py: acts when a time has come, on a clock that only the test moves."""

import threading

import pytest
from server_fakes import WAIT

from openpi_flash_server.slot.alarm import Alarm


class Bench:
    def __init__(self):
        self.now = 1.0
        self.lock = threading.RLock()
        self.acted = threading.Semaphore(0)
        self.next = float("inf")
        self.is_broken = False
        self.problems = []
        self.alarm = Alarm(
            "alarm",
            self.lock,
            clock=lambda: self.now,
            act=self._act,
            died=self.problems.append,
        )

    def _act(self):
        with self.lock:
            self.alarm.set(self.next)
        self.acted.release()
        if self.is_broken:
            raise RuntimeError("no more memory")

    def set(self, at):
        with self.lock:
            self.alarm.set(at)


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    with bench.lock:
        bench.alarm.close()
    bench.alarm._thread.join(WAIT)
    assert not bench.alarm._thread.is_alive()


def test_it_acts_when_the_time_has_come_and_not_again(bench):
    bench.set(1.0)
    bench.alarm.start()
    assert bench.acted.acquire(timeout=WAIT)
    assert not bench.acted.acquire(blocking=False)


def test_an_earlier_time_wakes_it(bench):
    bench.set(1e6)
    bench.alarm.start()
    bench.set(0.5)
    assert bench.acted.acquire(timeout=WAIT)


def test_what_it_does_sets_the_next_time(bench):
    bench.next = 0.5
    bench.set(0.5)
    bench.alarm.start()
    for _ in range(3):
        assert bench.acted.acquire(timeout=WAIT)


def test_its_death_is_told(bench):
    bench.is_broken = True
    bench.set(0.5)
    bench.alarm.start()
    bench.alarm._thread.join(WAIT)
    assert bench.problems == ["the thread alarm died: RuntimeError: no more memory"]
