"""A session ends with the last client that uses it; one with a token is its holder's."""

import pytest

from openpi_flash_server.slot.client import Client
from openpi_flash_server.slot.sessions import REST, Sessions

ONE, TWO, THREE = (Client(f"a:{number}#{number}", "a") for number in (1, 2, 3))


def test_a_session_ends_when_its_client_leaves():
    sessions = Sessions()
    assert sessions.used("arm", ONE, None, 0.0) == []
    assert sessions.left(ONE) == ["arm"]
    assert sessions.left(ONE) == []


def test_a_session_goes_on_while_another_client_uses_it():
    sessions = Sessions()
    for client in (ONE, TWO):
        sessions.used("arm", client, None, 0.0)
    assert sessions.left(ONE) == []
    assert sessions.left(TWO) == ["arm"]


def test_all_sessions_of_a_client_end_with_it():
    sessions = Sessions()
    for name in ("left", "right"):
        sessions.used(name, ONE, None, 0.0)
    sessions.used("other", TWO, None, 0.0)
    assert sorted(sessions.left(ONE)) == ["left", "right"]


def test_beyond_the_limit_the_session_unused_for_longest_ends():
    sessions = Sessions(limit=2)
    sessions.used("a", ONE, None, 0.0)
    sessions.used("b", ONE, None, 0.0)
    sessions.used("a", ONE, None, 0.0)
    assert sessions.used("c", TWO, None, 0.0) == ["b"]
    assert sorted(sessions.left(ONE)) == ["a"]


@pytest.mark.parametrize(
    ("held", "given", "may"),
    [
        (None, None, True),
        ("secret", "secret", True),
        ("secret", None, False),
        ("secret", "guess", False),
        ("sécret", "secret", False),
        # whoever comes later cannot shut out those who use it
        (None, "secret", False),
    ],
)
def test_another_connection_uses_a_session_with_the_holders_token_only(held, given, may):
    sessions = Sessions()
    sessions.used("arm", ONE, held, 0.0)
    assert sessions.may_use("arm", TWO, given, REST - 1) is may
    assert sessions.may_use("other", TWO, given, REST - 1)


def test_a_connection_that_uses_a_session_alone_may_give_or_change_its_token():
    sessions = Sessions()
    sessions.used("arm", ONE, None, 0.0)
    assert sessions.may_use("arm", ONE, "new", 1.0)
    sessions.used("arm", ONE, "new", 1.0)
    assert not sessions.may_use("arm", TWO, None, 2.0)
    assert sessions.may_use("arm", TWO, "new", 2.0)


def test_a_session_is_free_when_its_holders_connections_have_ended():
    sessions = Sessions()
    for client in (ONE, TWO):
        sessions.used("arm", client, "secret", 0.0)
    sessions.left(ONE)
    assert not sessions.may_use("arm", THREE, None, 1.0)
    assert sessions.left(TWO) == ["arm"]
    assert sessions.may_use("arm", THREE, None, 1.0)


def test_a_session_that_rests_can_be_taken_and_its_old_holder_must_have_the_new_token():
    sessions = Sessions()
    sessions.used("arm", ONE, "lost", 0.0)
    assert not sessions.may_use("arm", TWO, "new", REST - 0.1)
    assert sessions.may_use("arm", TWO, "new", REST)
    sessions.used("arm", TWO, "new", REST)
    assert not sessions.may_use("arm", ONE, "lost", REST + 1)
    assert sessions.left(ONE) == []
    assert sessions.left(TWO) == ["arm"]


def test_only_those_who_use_a_held_session_reset_it():
    sessions = Sessions()
    assert sessions.may_reset("arm", TWO, 0.0)
    sessions.used("arm", ONE, None, 0.0)
    assert sessions.may_reset("arm", TWO, 1.0)
    sessions.used("arm", ONE, "secret", 2.0)
    assert sessions.may_reset("arm", ONE, 3.0)
    assert not sessions.may_reset("arm", TWO, 3.0)
    assert sessions.may_reset("arm", TWO, 2.0 + REST)
