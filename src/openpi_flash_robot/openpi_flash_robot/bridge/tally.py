"""What each request cost, and how many chunks and deadlines were missed since activation."""

from __future__ import annotations

from typing import Any

import numpy as np

from openpi_flash_robot.bridge.effects import PublishStats
from openpi_flash_robot.bridge.request_schedule import PendingRequest
from openpi_flash_robot.link.events import RequestDone
from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.play.plan import Plan


class Tally:
    """Counts dropped chunks and missed deadlines, and derives the statistics of an answer.

    Attributes:
        chunks_dropped: answers that moved nothing.
        deadline_misses: answers that came too late, or not at all.
    """

    def __init__(self) -> None:
        self.chunks_dropped = 0
        self.deadline_misses = 0

    def start_anew(self) -> None:
        """Count from zero."""
        self.chunks_dropped = self.deadline_misses = 0

    def stats(
        self,
        now: int,
        request: PendingRequest[Any],
        event: RequestDone,
        server_s: float,
        plan: Plan | None,
    ) -> PublishStats:
        """What an answered request cost.

        Args:
            now: this moment.
            request: what was asked.
            event: its answer and the cost that the link measured.
            server_s: time of inference on the server, seconds; NaN where unknown.
            plan: what the answer has become; None if it was dropped.
        """
        observation = request.observation
        robot_s = event.preprocess_s + event.cost.serialize_s
        known_s = robot_s + (0.0 if np.isnan(server_s) else server_s)
        return PublishStats(
            stamp_ns=now,
            observation_age=to_seconds(request.sent_ns - observation.oldest_ns),
            camera_skew=to_seconds(observation.frames.skew_ns),
            preprocess=event.preprocess_s,
            serialize=event.cost.serialize_s,
            network=max(0.0, event.total_s - known_s),
            server=server_s,
            total=event.total_s,
            bytes_up=event.cost.bytes_up,
            bytes_down=event.cost.bytes_down,
            steps_skipped=plan.first_step if plan else 0,
            sequence=plan.sequence if plan else 0,
            chunks_dropped=self.chunks_dropped,
            deadline_misses=self.deadline_misses,
        )
