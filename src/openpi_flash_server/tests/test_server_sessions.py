"""A session ends with the last client that uses it."""

from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.sessions import Sessions

ONE, TWO = Client("a:1#1", "a"), Client("a:2#2", "a")


def test_a_session_ends_when_its_client_leaves():
    sessions = Sessions()
    assert sessions.used("arm", ONE) == []
    assert sessions.left(ONE) == ["arm"]
    assert sessions.left(ONE) == []


def test_a_session_goes_on_while_another_client_uses_it():
    sessions = Sessions()
    for client in (ONE, TWO):
        sessions.used("arm", client)
    assert sessions.left(ONE) == []
    assert sessions.left(TWO) == ["arm"]


def test_all_sessions_of_a_client_end_with_it():
    sessions = Sessions()
    for name in ("left", "right"):
        sessions.used(name, ONE)
    sessions.used("other", TWO)
    assert sorted(sessions.left(ONE)) == ["left", "right"]


def test_beyond_the_limit_the_session_unused_for_longest_ends():
    sessions = Sessions(limit=2)
    sessions.used("a", ONE)
    sessions.used("b", ONE)
    sessions.used("a", ONE)
    assert sessions.used("c", TWO) == ["b"]
    assert sorted(sessions.left(ONE)) == ["a"]
