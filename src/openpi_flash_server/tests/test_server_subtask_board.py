"""Which subtask an action follows, and when the planner runs, in virtual time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openpi_flash_server.handlers.subtask_board import Pace, SubtaskBoard
from openpi_flash_server.slot.answer import ErrorCode, Failure

BACKGROUND = Pace(every_request=False, period=1.0, longest_wait=2.0, oldest=5.0)
INLINE = Pace(every_request=True, period=1.0, longest_wait=2.0, oldest=5.0)
BROKEN = Failure(ErrorCode.INTERNAL, "out of memory")


@pytest.fixture
def board():
    return SubtaskBoard(BACKGROUND)


def known(board, subject="arm", task="wipe", *, at, now=None):
    return board.subtask(subject, task, at, at if now is None else now)


def test_the_first_request_of_a_prompt_waits_for_its_subtask_and_no_longer_than_the_limit(board):
    first = board.observed("arm", "wipe", 10.0)
    assert first.plan == first.awaited
    assert first.plan.is_awaited
    assert first.held_until == 12.0
    second = board.observed("arm", "wipe", 11.0)
    assert (second.plan, second.awaited, second.held_until) == (None, first.plan, 12.0)
    late = board.observed("arm", "wipe", 12.0)
    assert (late.plan, late.awaited) == (None, None)
    assert known(board, at=12.0).problem.message == "the planner has not answered for 2 s"


def test_a_later_request_gets_the_newest_subtask_and_its_age_at_once(board):
    plan = board.observed("arm", "wipe", 10.0).plan
    assert board.planned(plan, "grasp", 300.0, 10.3)
    assert known(board, at=10.0, now=10.4).age == 0.0
    assert board.observed("arm", "wipe", 10.5).awaited is None
    later = known(board, at=10.5)
    assert (later.text, later.ms, later.age, later.problem) == ("grasp", 300.0, 0.5, None)


def test_the_planner_runs_again_after_a_period_and_never_twice_at_once(board):
    plan = board.observed("arm", "wipe", 0.0).plan
    board.planned(plan, "grasp", 1.0, 0.3)
    assert board.observed("arm", "wipe", 0.9).plan is None
    refresh = board.observed("arm", "wipe", 1.0)
    assert refresh.plan is not None
    assert not refresh.plan.is_awaited
    assert refresh.awaited is None
    assert board.observed("arm", "wipe", 2.5).plan is None
    board.planned(refresh.plan, "lift", 1.0, 2.6)
    assert board.observed("arm", "wipe", 2.7).plan is not None


def test_a_new_prompt_starts_anew_and_the_old_ones_result_is_dropped(board):
    old = board.observed("arm", "wipe", 0.0).plan
    new = board.observed("arm", "fold", 0.1)
    assert new.awaited == new.plan
    assert new.held_until == 2.1
    assert not board.is_wanted(old)
    assert not board.planned(old, "grasp", 1.0, 0.2)
    assert board.is_wanted(new.plan)
    assert known(board, task="fold", at=0.2).text == ""
    assert "another task" in known(board, task="wipe", at=0.2).problem.message


def test_the_result_for_an_earlier_use_of_the_same_prompt_is_dropped(board):
    first = board.observed("arm", "wipe", 0.0).plan
    board.observed("arm", "fold", 0.1)
    board.observed("arm", "wipe", 0.2)
    assert not board.planned(first, "grasp", 1.0, 0.3)


def test_a_session_that_starts_anew_forgets(board):
    plan = board.observed("arm", "wipe", 0.0).plan
    board.planned(plan, "grasp", 1.0, 0.1)
    board.forget("arm")
    assert len(board) == 0
    again = board.observed("arm", "wipe", 0.2)
    assert again.awaited == again.plan
    assert known(board, at=0.2).text == ""


def test_after_a_failure_the_last_subtask_serves_until_it_is_too_old(board):
    board.planned(board.observed("arm", "wipe", 0.0).plan, "grasp", 1.0, 0.1)
    refresh = board.observed("arm", "wipe", 1.0).plan
    assert board.failed(refresh, BROKEN, 1.1)
    soon = known(board, at=5.0)
    assert (soon.text, soon.age, soon.problem) == ("grasp", 5.0, BROKEN)
    late = known(board, at=5.1)
    assert (late.text, late.age, late.problem) == ("", 0.0, BROKEN)
    board.planned(board.observed("arm", "wipe", 5.2).plan, "lift", 1.0, 5.3)
    assert known(board, at=5.4).problem is None


def test_a_stale_subtask_of_a_planner_that_is_too_slow_says_so(board):
    board.planned(board.observed("arm", "wipe", 0.0).plan, "grasp", 1.0, 0.1)
    assert known(board, at=5.1).problem.message == "the newest subtask is older than 5 s"


def test_nobody_waits_again_for_a_planner_that_failed_for_this_prompt(board):
    plan = board.observed("arm", "wipe", 0.0).plan
    board.failed(plan, BROKEN, 0.1)
    second = board.observed("arm", "wipe", 0.2)
    assert (second.plan, second.awaited) == (None, None)
    third = board.observed("arm", "wipe", 1.0)
    assert third.plan is not None
    assert third.awaited is None


def test_a_run_that_was_dropped_is_asked_for_again(board):
    plan = board.observed("arm", "wipe", 0.0).plan
    assert board.failed(plan, None, 0.1)
    again = board.observed("arm", "wipe", 0.2)
    assert again.plan is not None
    assert again.awaited == again.plan


def test_inline_every_request_has_a_subtask_of_its_own_observation():
    board = SubtaskBoard(INLINE)
    for at in (0.0, 0.5):
        observed = board.observed("arm", "wipe", at)
        assert observed.awaited == observed.plan
        assert known(board, at=at).text == ""
        board.planned(observed.plan, f"at {at}", 1.0, at + 0.1)
        assert known(board, at=at, now=at + 0.2).text == f"at {at}"


def test_inline_a_request_that_came_during_planning_gets_that_result_and_its_age():
    """Else a client that sends faster than the planner answers would never get an action."""
    board = SubtaskBoard(INLINE)
    plan = board.observed("arm", "wipe", 0.0).plan
    board.observed("arm", "wipe", 0.5)
    assert board.planned(plan, "grasp", 1.0, 1.0)
    assert known(board, at=0.5, now=1.0).age == 0.5


def test_inline_nobody_waits_for_a_planner_that_hangs():
    board = SubtaskBoard(INLINE)
    plan = board.observed("arm", "wipe", 0.0).plan
    after = board.observed("arm", "wipe", 2.0)
    assert (after.plan, after.awaited) == (None, None)
    board.planned(plan, "grasp", 1.0, 3.0)
    assert board.observed("arm", "wipe", 3.1).awaited is not None


def test_inline_an_earlier_failure_is_not_this_requests():
    board = SubtaskBoard(INLINE)
    board.failed(board.observed("arm", "wipe", 0.0).plan, BROKEN, 0.1)
    assert known(board, at=0.0, now=0.2).problem == BROKEN
    board.observed("arm", "wipe", 0.5)
    assert known(board, at=0.5).problem.code is ErrorCode.NOT_READY


SUBJECTS = st.sampled_from(["a", "a", "a", "b", "c"])
TASKS = st.sampled_from(["wipe", "fold"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["observe", "observe", "observe", "end", "end", "fail", "drop", "forget"]),
        SUBJECTS,
        TASKS,
        st.integers(0, 20),
        st.floats(0.0, 3.0),
    ),
    min_size=12,
    max_size=60,
)


@pytest.mark.parametrize("pace", [BACKGROUND, INLINE], ids=["background", "inline"])
@settings(max_examples=300)
@given(steps=STEPS)
def test_no_history_gives_a_subject_the_subtask_of_another_or_of_an_old_prompt(pace, steps):
    """Every plan's text says for whom, for which task and in which life of it it was made."""
    board, now, limit = SubtaskBoard(pace, limit=2), 0.0, 2
    lives, tasks, running = {}, {}, []
    for act, subject, task, which, later in steps:
        now += later
        if act == "observe":
            if tasks.get(subject) != task:
                tasks[subject], lives[subject] = task, now
            observed = board.observed(subject, task, now)
            if observed.plan is not None:
                assert (observed.plan.subject, observed.plan.task) == (subject, task)
                running.append(observed.plan)
            if observed.awaited is not None:
                assert observed.awaited.subject == subject
                assert now < observed.held_until <= now + pace.longest_wait
        elif act == "forget":
            board.forget(subject)
            tasks.pop(subject, None)
        elif running:
            plan = running.pop(which % len(running))
            if act == "end":
                board.planned(plan, f"{plan.subject}/{plan.task}/{plan.observed_at!r}", 1.0, now)
            else:
                board.failed(plan, BROKEN if act == "fail" else None, now)
        assert len(board) <= limit
        for one, its_task in tasks.items():
            answer = board.subtask(one, its_task, now, now)
            assert 0.0 <= answer.age <= pace.oldest
            if not answer.text:
                assert answer.problem is not None
                continue
            of, of_task, observed_at = answer.text.split("/")
            assert (of, of_task) == (one, its_task)
            assert float(observed_at) >= lives[one]
            assert answer.age == now - float(observed_at)
