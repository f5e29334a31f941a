"""Whether a controller's topic has one listener and one commander: this node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openpi_flash_robot.hold import Hold, HoldKind


@dataclass(frozen=True)
class CommandTopic:
    """Who is at a controller's topic.

    Attributes:
        controller: its name.
        topic: where it takes trajectories.
        subscribers: how many nodes listen.
        other_publishers: full names of the nodes that publish too, this one left out.
        problem: why nothing can be said there; empty if it can.
    """

    controller: str
    topic: str
    subscribers: int
    other_publishers: tuple[str, ...] = ()
    problem: str = ""


def objection(topics: Sequence[CommandTopic]) -> Hold | None:
    """Why nothing may be commanded; None if every controller listens to this node alone."""
    for topic in topics:
        if topic.problem:
            return Hold(HoldKind.COMMANDER, f"{topic.topic}: {topic.problem}")
        if not topic.subscribers:
            return Hold(
                HoldKind.COMMANDER,
                f"nobody subscribes to {topic.topic}: controller {topic.controller} is not "
                f"running; see `ros2 control list_controllers`",
            )
        if topic.other_publishers:
            return Hold(
                HoldKind.COMMANDER,
                f"{', '.join(topic.other_publishers)} also publishes to {topic.topic}; only one "
                f"node may command controller {topic.controller}, stop the other one",
            )
    return None
