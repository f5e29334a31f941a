"""The qualities of service in use, by what they are for."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

COMMANDS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""Chunks and trajectories: only the newest, delivered reliably; an old one is useless."""

LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""States: a subscriber that joins late gets the current one."""

STATUS = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    deadline=Duration(seconds=1),
    liveliness=LivelinessPolicy.AUTOMATIC,
    liveliness_lease_duration=Duration(seconds=2),
)
"""As `LATCHED`, with promises that a subscriber may ask for: twice the heartbeat's period, and a
lease that only a process which lives renews."""

PROMPTS = (
    LATCHED,
    QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE),
    QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
)
"""What an instruction's topic is subscribed with, the best that its publishers offer."""

STATISTICS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Numbers to plot: a lost message does not matter."""

DIAGNOSTICS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""What /diagnostics is published with everywhere."""

IMAGES_DEPTH = 2
"""Frames that wait in the middleware: `FrameDemand` counts on two. With one, the next frame takes
its place while its fragments are still arriving."""

JOINT_STATES_DEPTH = 10
"""Of one control period at 500 Hz; of a faster driver the newest ten are taken."""


STATES_ON_CHANGE = (LATCHED, QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
"""What a state of the robot is subscribed with twice: a publisher that keeps nothing for who joins
late is not heard by the first."""

TRANSFORMS_DEPTH = 100
"""Of /tf, as tf2_ros: a robot has several publishers there, some with one transform a message."""

STATIC_TRANSFORMS = QoSProfile(
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""Of /tf_static: a subscriber that joins late gets those of every publisher."""


def stop_input(*, is_latched: bool) -> QoSProfile:
    """What emergency stops and switches are subscribed with.

    Args:
        is_latched: whether they speak on change only; then the last message has to be kept for us.
    """
    if is_latched:
        return LATCHED
    return QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


def sensor(depth: int, *, reliable: bool) -> QoSProfile:
    """What cameras and joints are subscribed with; see sensor_subscription."""
    reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=depth, reliability=reliability)
