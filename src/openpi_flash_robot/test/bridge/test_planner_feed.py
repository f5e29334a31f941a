"""planner_feed.py: which of the planner's words are news, and why there are none."""

import numpy as np

from openpi_flash_robot.bridge.effects import PublishSubtask
from openpi_flash_robot.bridge.planner_feed import PlannerFeed
from openpi_flash_robot.link.answer import ParsedAnswer, PlannerSubtask


def answer(text=None, *, age_ns=0, error=""):
    words = None if text is None else PlannerSubtask(text, age_ns)
    return ParsedAnswer(np.zeros((1, 1)), words, error, server_s=0.0)


REACH = answer("reach", age_ns=30)


def test_words_are_news_once_and_carry_the_stamp_they_were_made_for():
    feed = PlannerFeed()
    assert feed.take(1, REACH, "stack", 100) == PublishSubtask(70, "reach", "stack", 1)
    assert feed.take(200, REACH, "stack", 200) is None


def test_other_words_and_another_instruction_are_news():
    feed = PlannerFeed()
    feed.take(100, REACH, "stack", 100)
    assert feed.take(200, answer("close"), "stack", 200).sequence == 2
    assert feed.take(300, answer("close"), "open", 300).sequence == 3


def test_no_words_are_no_news_and_do_not_make_the_last_ones_news_again():
    feed = PlannerFeed()
    feed.take(100, REACH, "stack", 100)
    assert feed.take(200, answer(), "stack", 200) is None
    assert feed.take(300, REACH, "stack", 300) is None


def test_what_was_forgotten_is_news_and_its_number_goes_on():
    feed = PlannerFeed()
    feed.take(100, REACH, "stack", 100)
    feed.forget()
    assert feed.take(200, REACH, "stack", 200).sequence == 2


def test_words_older_than_time_itself_are_stamped_zero():
    assert PlannerFeed().take(100, answer("go", age_ns=500), "", 100).stamp_ns == 0


def test_a_planner_that_fails_is_news_with_its_error_whether_it_sends_words_or_none():
    for words in ("", None):
        feed = PlannerFeed()
        feed.take(100, REACH, "stack", 100)
        failed = answer(words, error="out of memory")
        shown = feed.take(220, failed, "stack", 200)
        assert shown == PublishSubtask(200, "", "stack", 2, age=20e-9, error="out of memory")
        assert feed.text == ""
        assert feed.take(320, failed, "stack", 300) is None
        assert feed.take(420, REACH, "stack", 400).error == ""
        assert feed.text == "reach"


def test_an_error_lasts_until_the_next_answer():
    feed = PlannerFeed()
    feed.take(100, answer("", error="out of memory"), "stack", 100)
    assert feed.error == "out of memory"
    feed.take(200, REACH, "stack", 200)
    assert feed.error == ""


def test_the_end_of_an_error_is_news_also_when_it_was_forgotten_meanwhile():
    feed = PlannerFeed()
    feed.take(100, answer("reach", error="slow"), "stack", 100)
    feed.forget_error()
    assert feed.error == ""
    shown = feed.take(200, REACH, "stack", 200)
    assert (shown.text, shown.error) == ("reach", "")
