"""Whether a robot may be moved with these settings. A dry run may have any."""

from __future__ import annotations

import math

from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_robot.settings.parse_controllers import RATE_KINDS


def why_not_move(settings: NodeSettings) -> str | None:
    """What is missing before the robot may move; None if nothing is."""
    if settings.dry_run:
        return None
    if settings.limit_conflict:
        return settings.limit_conflict
    axes, player = settings.axes, settings.player
    rotations = {axes[axis] for pose in settings.poses for axis in pose.rotation_axes}
    is_bounded = [
        axis not in {*settings.unmoved_joints, *rotations}
        and (is_measured or kind not in RATE_KINDS)
        for axis, is_measured, kind in zip(
            axes, player.measured, settings.action_kinds, strict=True
        )
    ]
    for name, limits in (
        ("position_lower", player.position_lower),
        ("position_upper", player.position_upper),
    ):
        missing = [
            axis
            for axis, limit, wants in zip(axes, limits, is_bounded, strict=True)
            if wants and math.isinf(limit)
        ]
        if missing:
            return (
                f"parameter {name} is not set for {', '.join(missing)}, and dry_run is false: a "
                "robot is not moved without position limits; take them from its data sheet or "
                "URDF, or name a joint_limits_file"
            )
    unmoved = [a for a in settings.axes_without_controller if a not in settings.unmoved_joints]
    if unmoved:
        return (
            f"no controller moves {', '.join(unmoved)}: what the policy commands there is not "
            "sent; add them to the joints of a controller (controller.<name>.joints), or to "
            "unmoved_joints if that is meant"
        )
    return None
