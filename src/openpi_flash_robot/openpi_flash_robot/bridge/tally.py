"""What each request cost, and how many ended how since activation."""

from __future__ import annotations

from typing import Any

import numpy as np

from openpi_flash_robot.bridge.drop_reason import DropReason
from openpi_flash_robot.bridge.effects import PublishStats
from openpi_flash_robot.bridge.request_schedule import PendingRequest
from openpi_flash_robot.link.events import RequestCost, RequestDone
from openpi_flash_robot.nanoseconds import to_seconds
from openpi_flash_robot.play.plan import Plan

_UNKNOWN_S = float("nan")


class Tally:
    """Counts the ends of requests, and derives the statistics of each."""

    def __init__(self) -> None:
        self._counts = [0] * len(DropReason)
        self._chunks_dropped = 0

    @property
    def chunks_dropped(self) -> int:
        """Answers that moved nothing."""
        return self._chunks_dropped

    @property
    def deadline_misses(self) -> int:
        """Answers that came too late, or not at all."""
        return self._counts[DropReason.LATE] + self._counts[DropReason.TIMEOUT]

    def start_anew(self) -> None:
        """Count from zero."""
        self._counts, self._chunks_dropped = [0] * len(DropReason), 0

    def answered(
        self,
        now: int,
        request: PendingRequest[Any],
        event: RequestDone,
        server_s: float,
        end: Plan | DropReason,
    ) -> PublishStats:
        """Count an answered request; what it cost.

        Args:
            now: this moment.
            request: what was asked.
            event: its answer and the cost that the link measured.
            server_s: time of inference on the server, seconds; NaN where unknown.
            end: what the answer has become, or why it was dropped.
        """
        if not isinstance(end, Plan):
            self._chunks_dropped += 1
        robot_s = event.preprocess_s + event.cost.serialize_s
        known_s = robot_s + (0.0 if np.isnan(server_s) else server_s)
        return self._stats(
            now,
            request,
            end,
            event.cost,
            preprocess=event.preprocess_s,
            network=max(0.0, event.total_s - known_s),
            server=server_s,
            total=event.total_s,
        )

    def failed(self, now: int, request: PendingRequest[Any], reason: DropReason) -> PublishStats:
        """Count a request that got no answer; what is known of it."""
        return self._stats(
            now,
            request,
            reason,
            RequestCost(serialize_s=_UNKNOWN_S, bytes_up=0, bytes_down=0),
            preprocess=_UNKNOWN_S,
            network=_UNKNOWN_S,
            server=_UNKNOWN_S,
            total=max(0.0, to_seconds(now - request.sent_ns)),
        )

    def _stats(
        self,
        now: int,
        request: PendingRequest[Any],
        end: Plan | DropReason,
        cost: RequestCost,
        *,
        preprocess: float,
        network: float,
        server: float,
        total: float,
    ) -> PublishStats:
        plan = end if isinstance(end, Plan) else None
        reason = DropReason.NONE if isinstance(end, Plan) else end
        self._counts[reason] += 1
        observation = request.observation
        return PublishStats(
            stamp_ns=now,
            observation_ns=observation.oldest_ns,
            observation_age=to_seconds(request.sent_ns - observation.oldest_ns),
            camera_skew=to_seconds(observation.frames.skew_ns),
            preprocess=preprocess,
            serialize=cost.serialize_s,
            network=network,
            server=server,
            total=total,
            bytes_up=cost.bytes_up,
            bytes_down=cost.bytes_down,
            jpeg_quality=cost.jpeg_quality,
            link_rate=cost.link_rate,
            link_queue=cost.link_queue,
            steps_skipped=plan.first_step if plan else 0,
            sequence=plan.sequence if plan else 0,
            drop_reason=int(reason),
            inferences=sum(self._counts),
            chunks_dropped=self.chunks_dropped,
            deadline_misses=self.deadline_misses,
            drop_counts=tuple(self._counts),
        )
