"""Whether a robot may be moved with these settings. A dry run may have any."""

from __future__ import annotations

import math

from openpi_flash_robot.settings.node_settings import NodeSettings


def why_not_move(settings: NodeSettings) -> str | None:
    """What is missing before the robot may move; None if nothing is."""
    if settings.dry_run:
        return None
    joints, player = settings.joints, settings.player
    for name, limits in (
        ("position_lower", player.position_lower),
        ("position_upper", player.position_upper),
    ):
        missing = [j for j, limit in zip(joints, limits, strict=True) if math.isinf(limit)]
        if missing:
            return (
                f"parameter {name} is not set for {', '.join(missing)}, and dry_run is false: a "
                "robot is not moved without position limits; take them from its data sheet or URDF"
            )
    unmoved = [j for j in settings.joints_without_controller if j not in settings.unmoved_joints]
    if unmoved:
        return (
            f"no controller moves {', '.join(unmoved)}: what the policy commands there is not "
            "sent; add them to the joints of a controller (controller.<name>.joints), or to "
            "unmoved_joints if that is meant"
        )
    return None
