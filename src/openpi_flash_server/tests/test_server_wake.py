"""wake.py: other threads and signals end the main thread's wait, whatever they interrupt."""

import signal
import threading
import time

import pytest

from openpi_flash_server.serving.wake import Wake

LONG = 60
"""s; a wait that is not ended takes this long."""


@pytest.fixture
def alarms():
    """What handles SIGALRM during a test; the test sets it."""
    handlers = []
    before = signal.signal(signal.SIGALRM, lambda *_: [handle() for handle in handlers])
    yield handlers
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGALRM, before)


def test_a_wake_ends_the_running_wait_or_the_next_one():
    wake = Wake()
    started = time.monotonic()
    wake.wake()
    wake.wait(LONG)
    threading.Timer(0.05, wake.wake).start()
    wake.wait(LONG)
    assert time.monotonic() - started < LONG / 2


def test_many_wakes_end_one_wait():
    wake = Wake()
    for _ in range(50_000):
        wake.wake()
    wake.wait(LONG)
    started = time.monotonic()
    wake.wait(0.05)
    assert time.monotonic() - started >= 0.04


def test_a_signal_that_another_thread_receives_ends_the_wait_and_runs_its_handler(alarms):
    wake = Wake()
    wake.heed_signals()
    handled = []
    alarms.append(lambda: handled.append(True))

    def receive():
        signal.pthread_kill(threading.get_ident(), signal.SIGALRM)

    started = time.monotonic()
    threading.Timer(0.2, receive).start()
    while not handled:
        wake.wait(LONG)
    assert time.monotonic() - started < LONG / 2


def test_a_handler_that_interrupts_wait_and_wake_at_any_point_never_hangs(alarms):
    wake = Wake()
    alarms.append(wake.wake)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    for _ in range(5_000):
        wake.wait(LONG)
        wake.wake()
