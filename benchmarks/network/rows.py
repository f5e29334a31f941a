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
        jitter_ms: most that a packet is early or late, in each direction.
        overtakes: whether packets overtake each other by jitter; else they keep their order.
        up_mbps: from robot to server.
        down_mbps: the other way.
        queue_bytes: in front of each direction; the default holds more than any request needs.
        pause_s: before each request; 0 is back to back.
        requests: of each arm, after the warm-up.
        connects: whether a connection is made for each request, and counts.
    """

    name: str
    rtt_ms: float
    loss: str = "none"
    jitter_ms: float = 0.0
    overtakes: bool = False
    up_mbps: float = 1000.0
    down_mbps: float = 1000.0
    queue_bytes: int = 8 << 20
    pause_s: float = 0.1
    requests: int = 30
    connects: bool = False

    def path_arguments(self, seed: int) -> list[str]:
        """The arguments of `emulated_path` behind its devices."""
        one_way_us = round(self.rtt_ms * 500)
        rates = [round(mbps * 1e6) for mbps in (self.up_mbps, self.down_mbps)]
        kind = "overtaking" if self.overtakes else "in-order"
        jitter = f"{kind}:{round(self.jitter_ms * 1000)}" if self.jitter_ms else "none"
        return [*map(str, (seed, one_way_us, *rates, self.queue_bytes)), jitter, self.loss]

    @property
    def pause(self) -> str:
        """The pause before a request, for the table."""
        return f"{self.pause_s:g} s" if self.pause_s else "none"

    def back_to_back(self) -> Row:
        """The same path without a pause."""
        return dataclasses.replace(self, pause_s=0.0)


ROWS = {
    "idle": Row("RTT 80 ms, one request every 2 s", 80, pause_s=2.0, requests=10),
    "loss": Row("RTT 20 ms, 2 % loss", 20, loss="independent:0.02", requests=40),
    "bursts": Row("RTT 20 ms, 2 % loss in bursts of 5", 20, loss="bursts:0.02:5", requests=40),
    "jitter": Row("RTT 25 ms, jitter 2 ms, in order", 25, jitter_ms=1.0, requests=40),
    "connect": Row(
        "RTT 80 ms, connect and first answer", 80, pause_s=0.0, requests=5, connects=True
    ),
}
"""Those of the table in docs/benchmarks.md."""

_MORE_PATHS = {
    "long": Row("RTT 80 ms, 1 % loss", 80, loss="independent:0.01", requests=20),
    "heavy": Row("RTT 40 ms, 5 % loss", 40, loss="independent:0.05", requests=20),
    "overtaking": Row(
        "RTT 25 ms, jitter 2 ms, packets overtake", 25, jitter_ms=1.0, overtakes=True
    ),
    "wifi": Row(
        "RTT 6 ms, jitter 5 ms in order, 2 % loss in bursts of 15, 200 Mb/s",
        6,
        loss="bursts:0.02:15",
        jitter_ms=2.5,
        up_mbps=200.0,
        down_mbps=200.0,
        queue_bytes=1_500_000,
    ),
    "lte": Row(
        "RTT 60 ms, 20 Mb/s up, queue of 100 packets, 0.5 % loss",
        60,
        loss="independent:0.005",
        up_mbps=20.0,
        down_mbps=100.0,
        queue_bytes=150_000,
    ),
    "gigabit": Row("RTT 0.2 ms, 1 Gb/s", 0.2),
}
_PATHS = {key: row for key, row in ROWS.items() if not row.connects} | _MORE_PATHS

MORE_ROWS = _MORE_PATHS | {f"{key}-back-to-back": row.back_to_back() for key, row in _PATHS.items()}
"""Those that have to be asked for: other paths, and all of them without a pause."""


def choose(names: str) -> list[Row]:
    """The rows of a comma-separated list of their keys.

    Raises:
        ValueError: there is no such row.
    """
    rows = ROWS | MORE_ROWS
    chosen = []
    for name in names.split(","):
        if name not in rows:
            raise ValueError(f"unknown row {name!r}, expected some of: {', '.join(rows)}")
        chosen.append(rows[name])
    return chosen
