"""The paths that are measured, and how often each is asked."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """One path: what `emulated_path` makes of it, and the requests that go over it.

    Attributes:
        name: as the table names it.
        rtt_ms: both ways together, without the time that the bytes take.
        loss: as `emulated_path` reads it, of both directions.
        jitter_ms: most that a packet is early or late, in each direction, in order.
        pause_s: before each request.
        requests: of each arm, after the warm-up.
        connects: whether a connection is made for each request, and counts.
    """

    name: str
    rtt_ms: float
    loss: str = "none"
    jitter_ms: float = 0.0
    pause_s: float = 0.1
    requests: int = 30
    connects: bool = False

    def path_arguments(self, seed: int, bits_per_second: int) -> list[str]:
        """The arguments of `emulated_path` behind its devices."""
        one_way_us = round(self.rtt_ms * 500)
        jitter_us = round(self.jitter_ms * 1000)
        return [str(seed), str(one_way_us), str(bits_per_second), str(jitter_us), self.loss]


ROWS = {
    "idle": Row("RTT 80 ms, one request every 2 s", 80, pause_s=2.0, requests=10),
    "loss": Row("RTT 20 ms, 2 % loss", 20, loss="independent:0.02", requests=40),
    "bursts": Row("RTT 20 ms, 2 % loss in bursts of 5", 20, loss="bursts:0.02:5", requests=40),
    "jitter": Row("RTT 25 ms, jitter 2 ms, in order", 25, jitter_ms=1.0, requests=40),
    "connect": Row(
        "RTT 80 ms, connect and first answer", 80, pause_s=0.0, requests=5, connects=True
    ),
}


def choose(names: str) -> list[Row]:
    """The rows of a comma-separated list of their keys.

    Raises:
        ValueError: there is no such row.
    """
    chosen = []
    for name in names.split(","):
        if name not in ROWS:
            raise ValueError(f"unknown row {name!r}, expected some of: {', '.join(ROWS)}")
        chosen.append(ROWS[name])
    return chosen
