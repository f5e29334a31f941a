"""A network between robot and policy that is only a delay, in simulated time. Pure and seeded."""

from __future__ import annotations

import numpy as np

from openpi_flash_training.evaluation.conditions import Conditions

MS = 1_000_000

LEAST_REPEAT_MS = 25.0
"""After which a lost message is sent again at least: QUIC waits so long for an acknowledgement
(RFC 9002, max_ack_delay)."""


class VirtualNetwork:
    """How long each exchange takes, and which control periods the arm does not hear.

    Args:
        conditions: what the network is like.
        rng: draws what is lost.
    """

    def __init__(self, conditions: Conditions, rng: np.random.Generator) -> None:
        self._conditions = conditions
        self._rng = rng

    def exchange_ns(self) -> int:
        """From an observation to its answer."""
        given = self._conditions
        took_ms = given.delay_ms + given.inference_ms
        for _ in range(2):  # the request, and the answer
            while self._rng.random() < given.loss:
                took_ms += max(given.delay_ms, LEAST_REPEAT_MS)
        return round(took_ms * MS)

    def is_held(self) -> bool:
        """Whether no command reaches the arm in the next control period."""
        return bool(self._rng.random() < self._conditions.held)
