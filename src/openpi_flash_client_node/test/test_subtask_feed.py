"""subtask_feed.py: which of the planner's words are news."""

from openpi_flash_client_node.answer import SubtaskWords
from openpi_flash_client_node.effects import PublishSubtask
from openpi_flash_client_node.subtask_feed import SubtaskFeed

REACH = SubtaskWords("reach", age_ns=30)


def test_words_are_news_once_and_carry_the_stamp_they_were_made_for():
    feed = SubtaskFeed()
    assert feed.news(REACH, "stack", 100) == PublishSubtask(70, "reach", "stack", 1)
    assert feed.news(REACH, "stack", 200) is None


def test_other_words_and_another_instruction_are_news():
    feed = SubtaskFeed()
    feed.news(REACH, "stack", 100)
    assert feed.news(SubtaskWords("close", 0), "stack", 200).sequence == 2
    assert feed.news(SubtaskWords("close", 0), "open", 300).sequence == 3


def test_no_words_are_no_news_and_do_not_make_the_last_ones_news_again():
    feed = SubtaskFeed()
    feed.news(REACH, "stack", 100)
    assert feed.news(None, "stack", 200) is None
    assert feed.news(REACH, "stack", 300) is None


def test_what_was_forgotten_is_news_and_its_number_goes_on():
    feed = SubtaskFeed()
    feed.news(REACH, "stack", 100)
    feed.forget()
    assert feed.news(REACH, "stack", 200).sequence == 2


def test_words_older_than_time_itself_are_stamped_zero():
    assert SubtaskFeed().news(SubtaskWords("go", age_ns=500), "", 100).stamp_ns == 0
