"""trigger.py: which faults make a file, when, and how often; in virtual time."""

import pytest

from openpi_flash_robot.black_box.trigger import AFTER_NS, AGAIN_NS, CAUSES, Trigger
from openpi_flash_robot.bridge.instruction import NO_INSTRUCTION
from openpi_flash_robot.bridge.status import Cause, Condition, State, Status

MS = 1_000_000
RUNNING = (State.RUNNING, Cause.NONE)
TRACKING = (State.HOLDING, Cause.TRACKING)


def status(state, cause, *, resumes=True):
    return Status(
        condition=Condition(state, cause, "why", resumes),
        instruction=NO_INSTRUCTION,
        model="",
        checkpoint="",
        sequence=0,
        chunk_age=0.0,
        steps_buffered=0,
        limited_share=0.0,
        tracking_error=0.0,
    )


class Robot:
    """A trigger that is told a status, and asked, every 20 ms."""

    def __init__(self):
        self.trigger, self.now, self.files = Trigger(), 0, []

    def passes(self, nanoseconds, what, **more):
        end = self.now + nanoseconds
        while self.now < end:
            self.now += 20 * MS
            self.trigger.status(self.now, status(*what, **more))
            cause = self.trigger.due(self.now)
            if cause is not None:
                self.files.append((self.now, cause))
        return [cause for _, cause in self.files]


@pytest.fixture
def robot():
    made = Robot()
    made.passes(1_000 * MS, RUNNING)
    return made


@pytest.mark.parametrize("cause", sorted(CAUSES))
def test_a_hold_that_a_person_must_look_at_makes_one_file_two_seconds_later(robot, cause):
    began = robot.now
    assert robot.passes(AGAIN_NS * 3, (State.HOLDING, cause)) == [cause.name.lower()]
    assert AFTER_NS <= robot.files[0][0] - began <= AFTER_NS + 40 * MS


@pytest.mark.parametrize(
    "cause", [Cause.WAITING, Cause.EXHAUSTED, Cause.LATE, Cause.OBSERVATION, Cause.HELD]
)
def test_a_hold_that_ends_by_itself_or_was_asked_for_makes_none(robot, cause):
    assert robot.passes(AGAIN_NS, (State.HOLDING, cause)) == []
    assert robot.trigger.end() is None


def test_a_fault_makes_a_file(robot):
    assert robot.passes(3_000 * MS, (State.FAULT, Cause.MISMATCH)) == ["mismatch"]


def test_the_same_cause_makes_no_second_file_within_a_minute_and_another_cause_does(robot):
    for _ in range(10):
        robot.passes(3_000 * MS, TRACKING)
        robot.passes(1_000 * MS, RUNNING)
    assert [cause for _, cause in robot.files] == ["tracking"]
    robot.passes(3_000 * MS, (State.HOLDING, Cause.BAD_CHUNK))
    assert [cause for _, cause in robot.files] == ["tracking", "bad_chunk"]
    robot.passes(AGAIN_NS, RUNNING)
    assert robot.passes(3_000 * MS, TRACKING) == ["tracking", "bad_chunk", "tracking"]


def test_a_cause_that_follows_within_the_two_seconds_is_in_the_same_file(robot):
    robot.passes(500 * MS, TRACKING)
    assert robot.passes(AGAIN_NS, (State.HOLDING, Cause.EMERGENCY_STOP)) == ["tracking"]
    assert robot.trigger.end() is None


@pytest.mark.parametrize("cause", [Cause.COMMANDER, Cause.EMERGENCY_STOP])
def test_a_robot_that_has_not_run_waits_for_controllers_and_buttons_without_a_file(cause):
    robot = Robot()
    assert robot.passes(10_000 * MS, (State.HOLDING, cause)) == []
    assert robot.passes(3_000 * MS, (State.HOLDING, cause), resumes=False) == [cause.name.lower()]


def test_limits_that_are_missing_for_a_moment_at_the_start_make_no_file():
    robot = Robot()
    robot.passes(300 * MS, (State.FAULT, Cause.SETTINGS))
    assert robot.passes(5_000 * MS, RUNNING) == []
    assert robot.trigger.end() is None
    # and do not count as a file of that cause
    assert robot.passes(3_000 * MS, (State.FAULT, Cause.SETTINGS)) == ["settings"]


def test_a_fault_that_lasts_makes_a_file_though_the_robot_has_never_run():
    assert Robot().passes(3_000 * MS, (State.FAULT, Cause.SETTINGS)) == ["settings"]


def test_a_file_on_request_holds_the_faults_before_it_but_not_what_comes_after_one(robot):
    robot.passes(500 * MS, TRACKING)
    assert robot.trigger.ask() == "request"
    assert robot.passes(3_000 * MS, TRACKING) == ["tracking"]  # the two seconds after it are new
    robot.passes(500 * MS, RUNNING)
    robot.passes(500 * MS, TRACKING)  # within a minute: no file of its own
    robot.trigger.ask()
    assert robot.trigger.end() is None


def test_at_the_end_a_file_is_due_if_a_fault_has_none(robot):
    assert robot.trigger.end() is None
    robot.passes(500 * MS, TRACKING)
    assert robot.trigger.end() == "tracking"
    assert robot.trigger.end() is None


def test_a_file_that_could_not_be_written_is_tried_again_at_the_end(robot):
    robot.passes(3_000 * MS, TRACKING)
    robot.trigger.failed()
    assert robot.trigger.end() == "shutdown"
