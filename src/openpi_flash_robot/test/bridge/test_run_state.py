"""run_state.py: what people have told the robot, in any order."""

from hypothesis import given
from hypothesis import strategies as st

from openpi_flash_robot.bridge import run_state
from openpi_flash_robot.bridge.run_state import NOT_ACTIVE, Going, Order, Stopped
from openpi_flash_robot.bridge.status import Cause, State
from openpi_flash_robot.hold import Hold, HoldKind

LOST = Hold(HoldKind.TRACKING, "joint elbow does not follow")
STEPS = st.lists(st.tuples(st.sampled_from(["order", "back"]), st.sampled_from(list(Order))))


@given(STEPS)
def test_the_robot_goes_exactly_when_no_order_is_left(steps):
    state, orders = NOT_ACTIVE, {Order.INACTIVE}
    for step, order in steps:
        if step == "order":
            state = run_state.ordered(state, order)
            orders.add(order)
        else:
            state = run_state.without(state, order)
            orders.discard(order)
    assert isinstance(state, Stopped) == bool(orders)
    assert (run_state.condition_of(state) is None) == (not orders)


def test_what_is_latched_outlasts_every_order_and_ends_when_a_person_has_looked():
    state = run_state.latch(run_state.ordered(Going(), Order.PAUSED), LOST)
    state = run_state.without(state, Order.PAUSED)
    condition = run_state.condition_of(state)
    assert (condition.state, condition.cause) == (State.HOLDING, Cause.TRACKING)
    assert not condition.resumes_by_itself
    assert run_state.looked_at(state) == Going()


def test_looking_ends_no_order():
    state = run_state.looked_at(run_state.latch(run_state.ordered(Going(), Order.HELD), LOST))
    assert state == run_state.ordered(Going(), Order.HELD)


def test_the_most_urgent_order_is_shown():
    state = run_state.ordered(run_state.ordered(NOT_ACTIVE, Order.HELD), Order.PAUSED)
    assert run_state.condition_of(state).cause is Cause.INACTIVE
    state = run_state.without(state, Order.INACTIVE)
    assert run_state.condition_of(state).cause is Cause.PAUSED
