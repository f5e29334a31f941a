"""The states of a robot that stop it: what its driver says of it, beside people's switches."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class StopStateKind(enum.Enum):
    """Whose state it is, by the names of `stop_state.<name>.kind`."""

    UR_SAFETY_MODE = "ur_safety_mode"
    """ur_dashboard_msgs/SafetyMode."""
    UR_ROBOT_MODE = "ur_robot_mode"
    """ur_dashboard_msgs/RobotMode."""
    ROBOT_PROGRAM_RUNNING = "robot_program_running"
    """std_msgs/Bool, false while the robot does not run the program that takes commands."""
    FRANKA_ROBOT_STATE = "franka_robot_state"
    """franka_msgs/FrankaRobotState."""

    @property
    def topic(self) -> str:
        """Where the robot's own driver publishes it."""
        return _TOPICS[self]

    @property
    def is_on_change(self) -> bool:
        """Whether that is on change only, and kept for those who join late."""
        return self is not StopStateKind.FRANKA_ROBOT_STATE

    @property
    def is_running(self) -> bool:
        """Whether it is a Bool that is true while the robot may move."""
        return self is StopStateKind.ROBOT_PROGRAM_RUNNING


@dataclass(frozen=True)
class StopState:
    """One state of a robot.

    Attributes:
        name: as in the parameters.
        kind: whose it is.
        topic: where it comes from.
        timeout_ns: silence for longer stops the robot; 0: it is published on change, and a topic
            that nobody publishes any more stops it.
    """

    name: str
    kind: StopStateKind
    topic: str
    timeout_ns: int


@dataclass(frozen=True)
class SaidState:
    """What a message says.

    Attributes:
        stops: whether the robot must not move.
        text: for people, such as "PROTECTIVE_STOP (3)".
    """

    stops: bool
    text: str


def said_by(kind: StopStateKind, value: int) -> SaidState:
    """What a value of a state says; one that is not known stops the robot.

    Args:
        kind: of the state.
        value: `mode`, `robot_mode` or `data` of the message.
    """
    if kind is StopStateKind.ROBOT_PROGRAM_RUNNING:
        return SaidState(not value, "true" if value else "false")
    names, allowed = _MODES[kind]
    return SaidState(value not in allowed, f"{names.get(value, 'not known')} ({value})")


_TOPICS = {
    StopStateKind.UR_SAFETY_MODE: "/io_and_status_controller/safety_mode",
    StopStateKind.UR_ROBOT_MODE: "/io_and_status_controller/robot_mode",
    StopStateKind.ROBOT_PROGRAM_RUNNING: "/io_and_status_controller/robot_program_running",
    StopStateKind.FRANKA_ROBOT_STATE: "/franka_robot_state_broadcaster/robot_state",
}

_UR_SAFETY = (
    "NORMAL",
    "REDUCED",
    "PROTECTIVE_STOP",
    "RECOVERY",
    "SAFEGUARD_STOP",
    "SYSTEM_EMERGENCY_STOP",
    "ROBOT_EMERGENCY_STOP",
    "VIOLATION",
    "FAULT",
    "VALIDATE_JOINT_ID",
    "UNDEFINED_SAFETY_MODE",
    "AUTOMATIC_MODE_SAFEGUARD_STOP",
    "SYSTEM_THREE_POSITION_ENABLING_STOP",
)
_UR_ROBOT = (
    "NO_CONTROLLER",
    "DISCONNECTED",
    "CONFIRM_SAFETY",
    "BOOTING",
    "POWER_OFF",
    "POWER_ON",
    "IDLE",
    "BACKDRIVE",
    "RUNNING",
    "UPDATING_FIRMWARE",
)
_FRANKA = ("OTHER", "IDLE", "MOVE", "GUIDING", "REFLEX", "USER_STOPPED", "AUTOMATIC_ERROR_RECOVERY")
_MODES: dict[StopStateKind, tuple[dict[int, str], frozenset[int]]] = {
    StopStateKind.UR_SAFETY_MODE: (dict(enumerate(_UR_SAFETY, start=1)), frozenset({1, 2})),
    StopStateKind.UR_ROBOT_MODE: (dict(enumerate(_UR_ROBOT, start=-1)), frozenset({7})),
    StopStateKind.FRANKA_ROBOT_STATE: (dict(enumerate(_FRANKA)), frozenset({1, 2})),
}
"""The names of the values, and those with which the robot may move. Sources: the definitions of
SafetyMode and RobotMode in ur_dashboard_msgs, and of FrankaRobotState in franka_msgs. A Franka that
is idle may be commanded: its controller then brings it to MOVE."""
