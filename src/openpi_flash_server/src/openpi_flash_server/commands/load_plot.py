"""Draws latency against rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openpi_flash_server.probe.load_tally import LoadRow, Outcome


def draw(rows: Sequence[LoadRow], path: Path, *, title: str) -> None:
    """Writes a picture: percentiles of the latency, and the share of requests answered, by rate.

    Args:
        rows: of the rates.
        path: of the picture; its ending says its kind.
        title: above it.
    """
    # without a screen
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = sorted((row for row in rows if row.sent), key=lambda row: row.rate_hz)
    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    latency, share = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    timed = [(row.rate_hz * row.clients, row.latency_ms) for row in rows if row.latency_ms]
    for name in ("p50", "p90", "p99"):
        values = [getattr(spread, name) for _, spread in timed]
        latency.plot([rate for rate, _ in timed], values, marker="o", label=name)
    latency.set_ylabel("latency in ms")
    latency.set_ylim(bottom=0)
    latency.set_title(title)
    if timed:
        latency.legend()
    offered = [row.rate_hz * row.clients for row in rows]
    for outcome in Outcome:
        parts = [100 * row.counts[outcome] / row.sent for row in rows]
        if any(parts):
            share.plot(offered, parts, marker="o", label=str(outcome))
    share.set_ylabel("requests in %")
    share.set_xlabel("requests per second, all clients together")
    share.set_ylim(-5, 105)
    if rows:
        share.legend(loc="center left", fontsize="small")
    for axes in (latency, share):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
