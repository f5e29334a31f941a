"""What a client knows of the path to its server."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UNMEASURED", "LinkEstimate"]


@dataclass(frozen=True)
class LinkEstimate:
    """The path to a server, as the transport's acknowledgements show it.

    Attributes:
        round_trip_s: seconds from a packet to its acknowledgement, smoothed; 0 before the first.
        bits_per_second: at which the latest messages of at least 8 kB were delivered, a large one
            counting more than small ones. A lower bound if they were small. None: there was none.
        queue_s: seconds that the first packet of the latest of them waited in the path longer than
            the fastest of the last seconds: for other traffic.
    """

    round_trip_s: float
    bits_per_second: float | None
    queue_s: float


UNMEASURED = LinkEstimate(round_trip_s=0.0, bits_per_second=None, queue_s=0.0)
"""Of a path on which nothing was sent yet."""
