"""The scripted expert as a policy server, asked over QUIC as any policy; but it knows the scene."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flash_transport import QuicServer
from openpi_flash_training.evaluation.policy import expert_metadata
from openpi_flash_training.evaluation.served_policy import ServerChoice
from openpi_flash_training.live.expert_connection import HORIZON, RATE_HZ, ExpertConnection
from sim_robot.scene_report import SceneReport
from sim_robot.scene_state import SceneState

KEPT = 100
"""Reports; two seconds of them."""


class ExpertServer:
    """Answers on a free port of this machine, in a thread of its own."""

    def __init__(self) -> None:
        self._reports: deque[SceneReport] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._quic = QuicServer("127.0.0.1", 0, metadata=expert_metadata(RATE_HZ, HORIZON))
        self._thread = threading.Thread(target=self._serve, name="expert", daemon=True)
        self._thread.start()

    @property
    def choice(self) -> ServerChoice:
        """How it is reached."""
        return ServerChoice(f"127.0.0.1:{self._quic.port}")

    def hear(self, report: SceneReport) -> None:
        """What is true now."""
        with self._lock:
            self._reports.append(report)

    def close(self) -> None:
        """Answer no more."""
        self._quic.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while (request := self._quic.next_request()) is not None:
            if request.kind == "reset":
                request.respond({})
                continue
            try:
                request.respond(self._answer(request.observation))
            except (KeyError, ValueError) as error:
                request.fail("bad_request", str(error))

    def _answer(self, observation: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            reports = list(self._reports)
        seen = state_when(reports, observation["observation/state"])
        answer, _ = ExpertConnection(lambda: seen).infer_with_stats(observation)
        return answer


def state_when(reports: Sequence[SceneReport], joints: NDArray[np.float64]) -> SceneState:
    """What was true when the joints were there, so that a chunk begins at its observation.

    Args:
        reports: the newest last; those of other episodes than its own do not count.
        joints: of an observation, [7].

    Raises:
        ValueError: there is no report.
    """
    if not reports:
        raise ValueError("nothing is known of the scene")
    said = [report for report in reports if report.episode == reports[-1].episode]
    away = [float(np.abs(np.subtract(r.state.joints, joints)).max()) for r in reversed(said)]
    return said[-1 - int(np.argmin(np.round(away, 4)))].state
