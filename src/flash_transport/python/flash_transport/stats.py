"""What one call cost, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["NO_CALL", "CallStats", "RoundTrip"]


class RoundTrip(NamedTuple):
    """`CallStats` without the packing, in the order of the compiled half."""

    round_trip_ms: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    connect_attempts: int = 0
    first_action_ms: float = 0.0


@dataclass(frozen=True)
class CallStats:
    """What one call cost.

    All are 0 for a step of an action chunk that the client had already (`open_loop_horizon`).

    Attributes:
        serialize_ms: milliseconds of packing the observation into one message.
        round_trip_ms: milliseconds from the packed message to the last byte of its answer, waiting
            for a connection, for a server that is not ready and for the policy included.
        bytes_up: bytes of the request, without what QUIC or TCP adds.
        bytes_down: bytes of the answer, first actions included, without what QUIC or TCP adds.
        connect_attempts: attempts to connect that the call waited for; 0 if there was a connection.
        first_action_ms: milliseconds from the packed message to the first action: `round_trip_ms`,
            or less where first actions came ahead (`submit(..., first_actions=)`).
        jpeg_quality: of the images as the client encoded them (`image_encoding`); 0 if they were
            sent as they were given.
        transport: `quic` or `websocket`, of a client that chooses; empty of the others.
    """

    serialize_ms: float
    round_trip_ms: float
    bytes_up: int
    bytes_down: int
    connect_attempts: int
    first_action_ms: float = 0.0
    jpeg_quality: int = 0
    transport: str = ""

    @classmethod
    def of(cls, serialize_ms: float, round_trip: RoundTrip, jpeg_quality: int = 0) -> CallStats:
        """Adds the time of packing, and how the images were encoded."""
        return cls(serialize_ms, *round_trip, jpeg_quality)


NO_CALL = CallStats.of(0.0, RoundTrip())
"""The cost of a step that needed no call."""
