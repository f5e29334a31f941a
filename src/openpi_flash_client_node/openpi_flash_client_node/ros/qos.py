"""The qualities of service in use, by what they are for."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

COMMANDS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""Chunks and trajectories: the newest one, and surely; a late one is useless."""

LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""States: who comes late still gets the current one."""

STATISTICS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Numbers to plot: a lost one is no loss."""

DIAGNOSTICS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""What /diagnostics is published with everywhere."""

IMAGES_DEPTH = 2
JOINT_STATES_DEPTH = 10


def sensor(depth: int, *, reliable: bool) -> QoSProfile:
    """What cameras and joints are subscribed with; see sensor_subscription."""
    reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=depth, reliability=reliability)
