"""The commands to the controllers: follow a plan, or hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openpi_flash_client_node.bridge.effects import PublishTrajectory
from openpi_flash_client_node.play.plan import Plan
from openpi_flash_client_node.play.trajectory import hold_trajectory, trajectory_of
from openpi_flash_client_node.settings.node_settings import NodeSettings


class Commander:
    """Remembers which plan the controllers follow, so that each gets one hold command."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._plan: Plan | None = None

    def update_settings(self, settings: NodeSettings) -> None:
        """Take new values of the dynamic parameters."""
        self._settings = settings

    @property
    def is_followed(self) -> bool:
        """Whether the controllers follow a plan, or were not told yet that it has ended."""
        return self._plan is not None

    def follow(self, plan: Plan, now: int) -> list[PublishTrajectory]:
        """Commands to follow a plan from `now` on; none in a dry run."""
        if self._settings.dry_run:
            return []
        self._plan = plan
        return [
            PublishTrajectory(controller, trajectory_of(plan, now, controller.columns))
            for controller in self._settings.controllers
        ]

    def stay(
        self, now: int, latest_ns: int, measured: NDArray[np.float64]
    ) -> list[PublishTrajectory]:
        """Commands to come to rest; none if nothing was commanded.

        In the middle of a plan the robot stays where it is measured; at the end of one where the
        plan has led it, because stepping back by the controller's lag would be a jerk.

        Args:
            now: this moment; a clock that was set back may have it before `latest_ns`.
            latest_ns: when the plan was looked at last.
            measured: where the joints are, [N], rad or m; NaN where that is not known.
        """
        plan, self._plan = self._plan, None
        if plan is None:
            return []
        positions = measured
        if now > plan.end_ns or not np.isfinite(measured).all():
            positions = plan.sample(max(now, latest_ns))
        return [
            PublishTrajectory(
                controller,
                hold_trajectory(positions[list(controller.columns)], self._settings.hold_ns),
            )
            for controller in self._settings.controllers
        ]
