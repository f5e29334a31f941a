"""Whether the robot may go, or what only a person can end: one value, and how it changes.

What ends by itself (a late answer, a lost link, a stop that is still pressed) is not in it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from openpi_flash_robot.bridge.status import Cause, Condition, State, holding
from openpi_flash_robot.hold import Hold


class Order(enum.Enum):
    """What a person has told the robot, the most urgent first."""

    INACTIVE = Condition(State.PAUSED, Cause.INACTIVE, "not active", resumes_by_itself=False)
    PAUSED = Condition(State.PAUSED, Cause.PAUSED, "paused by ~/pause", resumes_by_itself=False)
    HELD = Condition(
        State.HOLDING, Cause.HELD, "held by ~/hold; call ~/reset to go on", resumes_by_itself=False
    )
    TAKEN = Condition(State.PAUSED, Cause.TAKEOVER, "a person commands the robot")
    NO_GOAL = Condition(
        State.PAUSED,
        Cause.GOAL,
        "no goal: send one, or call ~/pause with false to go on without",
        resumes_by_itself=False,
    )
    """The robot moves for goals only, and there is none; outlasts deactivation."""


@dataclass(frozen=True)
class Going:
    """It asks the policy and moves, where nothing else is in the way."""


@dataclass(frozen=True)
class Stopped:
    """It goes on when a person says so; at least one of the two is there.

    Attributes:
        orders: what people have told it.
        latched: what they must look at before they call ~/reset; None for nothing.
    """

    orders: frozenset[Order]
    latched: Hold | None = None


RunState = Going | Stopped
NOT_ACTIVE: RunState = Stopped(frozenset({Order.INACTIVE}))


def is_active(state: RunState) -> bool:
    """Whether the robot may be commanded, if only to stand."""
    return Order.INACTIVE not in _orders(state)


def is_ordered(state: RunState, *orders: Order) -> bool:
    """Whether a person has given one of these orders."""
    return not _orders(state).isdisjoint(orders)


def latched(state: RunState) -> Hold | None:
    """What a person must look at; None for nothing."""
    return state.latched if isinstance(state, Stopped) else None


def not_active(state: RunState) -> RunState:
    """After deactivation, which ends everything but the wait for a goal."""
    return Stopped(_orders(state) & {Order.NO_GOAL} | {Order.INACTIVE})


def ordered(state: RunState, order: Order) -> RunState:
    """After an order."""
    return Stopped(_orders(state) | {order}, latched(state))


def without(state: RunState, order: Order) -> RunState:
    """After an order was taken back."""
    return _state(_orders(state) - {order}, latched(state))


def latch(state: RunState, reason: Hold) -> RunState:
    """After something that a person must look at; the newest reason stays."""
    return Stopped(_orders(state), reason)


def looked_at(state: RunState) -> RunState:
    """After a person has looked at what was latched."""
    return _state(_orders(state), None)


def condition_of(state: RunState) -> Condition | None:
    """What to show of it; None while the robot may go."""
    if not isinstance(state, Stopped):
        return None
    orders, reason = _orders(state), latched(state)
    for order in Order:
        is_less = order in (Order.TAKEN, Order.NO_GOAL) and reason is not None
        if order in orders and not is_less:
            return order.value
    return None if reason is None else holding(reason, resumes_by_itself=False)


def _orders(state: RunState) -> frozenset[Order]:
    return state.orders if isinstance(state, Stopped) else frozenset()


def _state(orders: frozenset[Order], reason: Hold | None) -> RunState:
    return Stopped(orders, reason) if orders or reason is not None else Going()
