"""The picture of a transport benchmark: which share of requests is answered within a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

if TYPE_CHECKING:
    from transport import Run

COLOURS = ("#8c8c8c", "#c2a14d", "#2f6fb2", "#c0392b", "#4d8b57")
"""One for each arm: what openpi users have today is grey."""


def plot_latencies(runs: list[Run], path: Path) -> None:
    """Draw one panel for each run, the tail spread out, and save it as PNG."""
    figure, panels = plt.subplots(
        1, len(runs), figsize=(5.2 * len(runs), 4.2), sharey=True, squeeze=False
    )
    for panel, run in zip(panels[0], runs, strict=True):
        for result, colour in zip(run.results, COLOURS, strict=False):
            latencies = np.sort(result.milliseconds.ravel())
            # the last one would be at 100 %, which an axis of tails does not have
            slower = 1 - np.arange(1, latencies.size + 1) / (latencies.size + 1)
            panel.plot(latencies, slower, color=colour, linewidth=1.8, label=result.arm.name)
        panel.set_title(run.title, fontsize=10)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.invert_yaxis()
        panel.set_xlabel("round trip, ms")
        panel.xaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.grid(color="0.9")
        panel.spines[["top", "right"]].set_visible(False)
    first = panels[0][0]
    first.yaxis.set_major_locator(FixedLocator([0.9, 0.5, 0.1, 0.01, 0.001]))
    first.yaxis.set_minor_locator(NullLocator())
    first.yaxis.set_major_formatter(lambda slower, _: f"{100 * (1 - slower):.4g} %")
    first.set_ylabel("requests answered within")
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=2, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.11, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
