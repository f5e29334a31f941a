"""Which slot answers which path."""

from openpi_flash_server.slot.slot import Slot
from openpi_flash_server.transports.router import Router


def test_every_path_that_nobody_has_is_the_defaults():
    default, other = Slot("action"), Slot("planner")
    router = Router(default)
    router.add("/planner", other)
    assert router.slot("/") is default
    assert router.slot("/anything", "arm") is default
    assert router.slot("/planner", "arm") is other


def test_a_session_of_a_path_may_have_its_own_slot():
    default, shared, own = Slot("a"), Slot("b"), Slot("c")
    router = Router(default)
    router.add("/session", shared)
    router.add("/session", own, session="arm")
    assert router.slot("/session", "arm") is own
    assert router.slot("/session", "leg") is shared
