"""Whether the controllers and the hardware are active, by the controller manager's own word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openpi_flash_robot.hold import Hold, HoldKind

ACTIVE = 3
"""lifecycle_msgs/State.PRIMARY_STATE_ACTIVE."""


@dataclass(frozen=True)
class LifecycleState:
    """The state of one controller or hardware component.

    Attributes:
        id: of lifecycle_msgs/State.
        label: its name, such as "inactive".
    """

    id: int
    label: str


@dataclass(frozen=True)
class Activity:
    """A message of the controller manager: every state by name."""

    controllers: Mapping[str, LifecycleState]
    hardware: Mapping[str, LifecycleState]


def inactive(
    activity: Activity, controllers: Sequence[str], hardware: Sequence[str]
) -> Hold | None:
    """Which of them keeps commands from the robot; None if none does.

    Args:
        activity: the newest message.
        controllers: names of those that are commanded; one that it does not name is another
            manager's, or none of ros2_control.
        hardware: names of the components that must be active; empty: all.
    """
    for name in hardware or activity.hardware:
        state = activity.hardware.get(name)
        if state is None:
            known = ", ".join(activity.hardware) or "none"
            return Hold(
                HoldKind.COMMANDER,
                f"the controller manager knows no hardware {name} (hardware_components), only "
                f"{known}",
            )
        if state.id != ACTIVE:
            return Hold(
                HoldKind.COMMANDER,
                f"the hardware {name} is {state.label}: what is commanded does not reach the "
                "robot; see `ros2 control list_hardware_components`",
            )
    for name in controllers:
        state = activity.controllers.get(name)
        if state is not None and state.id != ACTIVE:
            return Hold(
                HoldKind.COMMANDER,
                f"controller {name} is {state.label}; see `ros2 control list_controllers`",
            )
    return None
