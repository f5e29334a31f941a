"""What an arm does when something around its node breaks: server, network, camera, joint states.

Node, server and camera are processes; every figure is read from the controller's reference.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from arm_rig import ACCELERATION, VELOCITY, Rig, Server, rig, swing
from server_process import Relay, ServerProcess
from test_arm_safety import assert_within_limits, way

from demo.ros_domain import reserved_ros_domain
from openpi_flash_msgs.msg import PolicyStatus

# rclpy imports a message's type support on first use, and that a parser that warns
pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

log = logging.getLogger(__name__)

CHUNK_AGE = 1.0
"""Seconds: a chunk of 50 steps at 25 Hz is played until half of it is over."""
BRAKING = VELOCITY / ACCELERATION
STANDS_WITHIN = CHUNK_AGE + BRAKING + 0.3
"""Seconds: the chunk's age, braking, and the control periods and lead time around it."""


@contextlib.contextmanager
def rig_with(directory, server, **changes):
    """A rig whose arm moves at full speed by a server that a test has made."""
    with reserved_ros_domain() as domain:
        made = Rig(domain, directory, server)
        try:
            made.start_node(**changes)
            made.until_moving()
            yield made
        finally:
            made.close()


def stands_without_answers(made, broken, name):
    """Assert that the arm stands in time, and how it came there; the status by then."""
    made.until_standing()
    distance, seconds = way(made, broken)
    status = made.statuses[-1][1]
    log.info(f"{name}: {distance:.3f} rad in {seconds:.3f} s: {status.state} {status.message}")
    assert 0.0 < seconds <= STANDS_WITHIN
    assert distance <= VELOCITY * STANDS_WITHIN
    assert_within_limits(made, broken)
    return status


def goes_on(made, since, *, by_itself=True):
    """Assert that the arm moves again; the seconds that took."""
    if by_itself:
        assert all(status.resumes_by_itself for at, status in made.statuses if at >= since)
    again = made.until_moving()
    made.wait(0.5)
    assert_within_limits(made, since)
    return again


def waits_for_a_person(made, broken):
    """Assert that the arm stands although the server answers, until it is told to go on."""
    _, status = made.until_status(PolicyStatus.HOLDING, "(fault_after)", since=broken)
    log.info(f"waits: {status.message}")
    assert status.message.startswith("stood for 1 s (fault_after) without a chunk to play: ")
    assert not status.resumes_by_itself


def stays(made, seconds):
    """Assert that the arm does not move."""
    begin = made.now
    made.wait(seconds)
    _, _, velocities, _ = made.reference(begin)
    assert np.abs(velocities).max() < 1e-9


def test_a_killed_server_lets_the_arm_stand_and_a_restarted_one_lets_it_go_on(tmp_path):
    with rig_with(tmp_path, ServerProcess()) as made:
        broken = made.now
        made.server.kill()
        stands_without_answers(made, broken, "killed")
        _, status = made.until_status(PolicyStatus.DISCONNECTED, since=broken)
        log.info(f"killed: {status.message}")
        back = made.now
        made.server.start()
        log.info(f"restarted: moves after {goes_on(made, back) - back:.2f} s")


def test_a_server_killed_for_longer_than_fault_after_waits_for_a_person(tmp_path):
    with rig_with(tmp_path, ServerProcess(), fault_after=1.0) as made:
        broken = made.now
        made.server.kill()
        stands_without_answers(made, broken, "killed for long")
        waits_for_a_person(made, broken)
        made.server.start()
        stays(made, 3.0)
        back = made.now
        made.call("reset")
        goes_on(made, back, by_itself=False)


def test_a_stopped_server_lets_the_arm_stand_and_a_continued_one_lets_it_go_on(tmp_path):
    with rig_with(tmp_path, ServerProcess()) as made:
        broken = made.now
        made.server.signal(signal.SIGSTOP)
        status = stands_without_answers(made, broken, "stopped")
        assert status.state in (PolicyStatus.HOLDING, PolicyStatus.DISCONNECTED)
        assert status.message
        back = made.now
        made.server.signal(signal.SIGCONT)
        log.info(f"continued: moves after {goes_on(made, back) - back:.2f} s")


def test_a_server_that_never_answers_lets_the_arm_stand_until_it_does(tmp_path):
    answers = threading.Event()
    answers.set()
    moves = swing()

    def hanging(state):
        answers.wait(60)
        return moves(state)

    with rig_with(tmp_path, Server(hanging)) as made:
        broken = made.now
        answers.clear()
        status = stands_without_answers(made, broken, "hanging")
        assert status.state == PolicyStatus.HOLDING
        assert status.message
        back = made.now
        answers.set()
        log.info(f"answers again: moves after {goes_on(made, back) - back:.2f} s")


def test_a_network_cut_for_a_second_lets_the_arm_go_on_by_itself(tmp_path):
    with rig_with(tmp_path, Relay(Server(swing()))) as made:
        broken = made.now
        made.server.is_cut = True
        made.wait(1.0)
        made.server.is_cut = False
        back = made.now
        log.info(f"cut for 1 s: moves after {goes_on(made, back) - back:.2f} s")
        distance, _ = way(made, broken)
        assert distance > 0.0


def test_a_network_cut_for_longer_than_fault_after_waits_for_a_person(tmp_path):
    with rig_with(tmp_path, Relay(Server(swing())), fault_after=1.0) as made:
        broken = made.now
        made.server.is_cut = True
        stands_without_answers(made, broken, "cut")
        waits_for_a_person(made, broken)
        made.server.is_cut = False
        stays(made, 3.0)
        back = made.now
        made.call("reset")
        goes_on(made, back, by_itself=False)
