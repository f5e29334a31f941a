"""What one call cost, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["NO_CALL", "CallStats", "RoundTrip"]


class RoundTrip(NamedTuple):
    """`CallStats` but for the packing, which `submit` does beforehand. The native half's order."""

    round_trip_ms: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    connect_attempts: int = 0


@dataclass(frozen=True)
class CallStats:
    """What one call cost.

    A step of an action chunk that was kept (`open_loop_horizon`) cost nothing: all are 0.

    Attributes:
        serialize_ms: milliseconds of packing the observation into one message.
        round_trip_ms: milliseconds from the packed message to the last byte of its answer, waiting
            for a connection, for a server that gets ready and for the policy included.
        bytes_up: bytes of the request, without what QUIC or TCP adds.
        bytes_down: bytes of the answer, without what QUIC or TCP adds.
        connect_attempts: attempts to connect that the call waited for; 0 where there was a
            connection.
    """

    serialize_ms: float
    round_trip_ms: float
    bytes_up: int
    bytes_down: int
    connect_attempts: int

    @classmethod
    def of(cls, serialize_ms: float, round_trip: RoundTrip) -> CallStats:
        """The packing and the rest."""
        return cls(serialize_ms, *round_trip)


NO_CALL = CallStats.of(0.0, RoundTrip())
"""Of an answer that needed no call."""
