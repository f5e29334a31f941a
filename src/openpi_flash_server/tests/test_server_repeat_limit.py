"""What repeats is said at once, then counted; with the time as a number."""

from openpi_flash_server.logs.repeat_limit import RepeatLimit


def test_the_first_is_said_and_the_others_are_told_together_a_period_later():
    limit = RepeatLimit(every=60)
    assert limit.occurred("10.0.0.9", 100.0) == 1
    assert [limit.occurred("10.0.0.9", 100.0 + second) for second in range(1, 60)] == [0] * 59
    assert limit.occurred("10.0.0.9", 160.0) == 60
    assert limit.occurred("10.0.0.9", 161.0) == 0


def test_keys_do_not_hush_each_other():
    limit = RepeatLimit(every=60)
    assert limit.occurred("a", 0.0) == 1
    assert limit.occurred("b", 0.0) == 1


def test_several_may_be_said_in_a_period():
    limit = RepeatLimit(every=60, at_once=3)
    assert [limit.occurred("a", float(second)) for second in range(5)] == [1, 1, 1, 0, 0]
    assert limit.occurred("a", 60.0) == 3


def test_a_key_that_was_quiet_for_a_period_is_forgotten_when_another_comes():
    limit = RepeatLimit(every=60)
    limit.occurred("a", 0.0)
    limit.occurred("b", 61.0)
    assert limit.occurred("a", 62.0) == 1


def test_more_keys_than_are_told_apart_share_one_line():
    limit = RepeatLimit(every=60, keys=3)
    said = [limit.occurred(f"address {number}", 0.0) for number in range(1000)]
    assert said == [1, 1, 1, 1] + [0] * 996
    assert limit.occurred("address 5000", 30.0) == 0
    # the table has room again, and what was counted meanwhile is not forgotten
    assert limit.occurred("address 0", 60.0) == 1
