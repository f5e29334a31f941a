"""The stages of a slot's life, and whether its last answers say that it is well."""

import pytest

from openpi_flash_server.slot.health import FAILURES, SUCCESSES, TRIAL_AFTER, Health
from openpi_flash_server.slot.life import Life, Stage


def test_a_slot_refuses_with_what_it_is_busy_with_until_it_opens():
    life = Life()
    assert (life.stage, life.refusal) == (Stage.STARTING, "starting")
    for stage in (Stage.DOWNLOADING, Stage.LOADING, Stage.COMPILING, Stage.WARMING):
        life.prepares(stage, f"warming up: {stage}")
        assert (life.stage, life.refusal) == (stage, f"warming up: {stage}")
    life.opens()
    assert (life.stage, life.refusal, life.trouble) == (Stage.READY, None, None)


@pytest.mark.parametrize("stage", [Stage.LOADING, Stage.COMPILING])
def test_preparing_another_model_changes_nothing_for_an_open_slot(stage):
    life = Life()
    life.opens()
    life.prepares(stage, "warming up: another one")
    assert (life.stage, life.refusal) == (Stage.READY, None)


def test_a_trouble_of_an_open_slot_is_told_and_requests_are_still_taken():
    life = Life()
    life.opens()
    life.fails("the thread quic-action died")
    assert life.stage is Stage.FAILED
    assert (life.refusal, life.trouble) == (None, "the thread quic-action died")


def test_a_start_that_fails_refuses_with_the_reason():
    life = Life()
    life.fails("loading failed: params/ is missing")
    life.prepares(Stage.LOADING, "warming up: the planner")
    assert (life.stage, life.refusal) == (Stage.FAILED, "loading failed: params/ is missing")


def test_a_slot_that_lost_its_model_is_well_again_with_another():
    life = Life()
    life.opens()
    life.unloads("warming up: another checkpoint is being loaded")
    life.lacks_model("the way back failed")
    assert (life.stage, life.refusal) == (Stage.FAILED, "the way back failed")
    assert life.trouble == "the way back failed"
    life.opens()
    assert (life.stage, life.refusal, life.trouble) == (Stage.READY, None, None)


def test_a_model_that_hangs_is_told_until_it_comes_back_or_another_opens():
    for ending in (Life.comes_back, Life.opens):
        life = Life()
        life.opens()
        life.hangs_because("no answer for 9 s")
        assert (life.refusal, life.trouble) == ("no answer for 9 s", "no answer for 9 s")
        ending(life)
        assert (life.stage, life.refusal, life.trouble) == (Stage.READY, None, None)


@pytest.mark.parametrize(
    "event",
    [
        Life.opens,
        lambda life: life.prepares(Stage.LOADING, "x"),
        lambda life: life.unloads("x"),
        lambda life: life.fails("x"),
    ],
)
def test_a_slot_that_drains_stays_so(event):
    life = Life()
    life.drains()
    event(life)
    assert (life.stage, life.refusal) == (Stage.DRAINING, "shutting down")


def test_failures_in_a_row_make_a_slot_unhealthy_and_successes_in_a_row_healthy_again():
    health = Health()
    for number in range(FAILURES):
        assert health.unhealthy_because(number) is None
        health.failed(number, "boom")
    now = FAILURES
    assert health.unhealthy_because(now) == f"{FAILURES} requests in a row failed, the last: boom"
    for _ in range(SUCCESSES):
        assert health.unhealthy_because(now) is not None
        health.succeeded()
    assert health.unhealthy_because(now) is None


def test_failures_with_successes_between_them_are_those_of_requests():
    health = Health()
    for number in range(10 * FAILURES):
        health.failed(number, "boom")
        if number % (FAILURES - 1) == FAILURES - 2:
            health.succeeded()
        assert health.unhealthy_because(number) is None


def test_an_unhealthy_slot_that_gets_no_requests_is_tried_again_and_the_next_failure_ends_that():
    health = Health()
    for _ in range(FAILURES):
        health.failed(0.0, "boom")
    assert health.unhealthy_because(TRIAL_AFTER - 0.1) is not None
    assert health.unhealthy_because(TRIAL_AFTER) is None
    health.failed(TRIAL_AFTER, "boom")
    assert health.unhealthy_because(TRIAL_AFTER) is not None


def test_another_model_begins_with_a_clean_sheet():
    health = Health()
    for _ in range(FAILURES):
        health.failed(0.0, "boom")
    health.replaced()
    assert health.unhealthy_because(0.0) is None
