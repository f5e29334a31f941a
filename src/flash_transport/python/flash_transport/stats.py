"""What one call cost, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CallStats"]


@dataclass(frozen=True)
class CallStats:
    """What one call cost.

    A step of an action chunk that was kept (`open_loop_horizon`) cost nothing: all are 0.

    Attributes:
        serialize_ms: packing the observation into one message.
        round_trip_ms: from the packed message to the last byte of its answer; waiting for a
            connection, for a server that gets ready and for the policy included.
        bytes_up: bytes of the request, without what QUIC or TCP adds.
        bytes_down: bytes of the answer, likewise.
        connect_attempts: attempts to connect that the call waited for; 0 where there was a
            connection.
    """

    serialize_ms: float
    round_trip_ms: float
    bytes_up: int
    bytes_down: int
    connect_attempts: int


NO_CALL = CallStats(0.0, 0.0, 0, 0, 0)
"""Of an answer that needed none."""
