"""The figure of the network benchmark: each row's median and 95th percentile, arm beside arm."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot

COLOURS = ("#b0b0b0", "#6f8fbf", "#d1603d")


def draw(results: dict[str, list[np.ndarray]], arms: list[str], path: Path) -> None:
    """Writes the figure: bars are medians, whiskers reach to the 95th percentile."""
    figure, axes = pyplot.subplots(figsize=(9, 0.9 + 0.85 * len(results)))
    height = 0.8 / len(arms)
    for index, (arm, colour) in enumerate(zip(arms, COLOURS, strict=True)):
        times = [row[index] for row in results.values()]
        medians = np.asarray([np.percentile(row, 50) for row in times])
        tails = np.asarray([np.percentile(row, 95) for row in times])
        places = np.arange(len(results)) + (index - (len(arms) - 1) / 2) * height
        whiskers = [np.zeros(len(times)), tails - medians]
        axes.barh(places, medians, height * 0.9, xerr=whiskers, color=colour, label=arm)
        for place, median, tail in zip(places, medians, tails, strict=True):
            axes.text(tail * 1.04, place, f"{median:.0f}", va="center", fontsize=8)
    axes.set_yticks(np.arange(len(results)), list(results))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("ms from request to answer: median, whisker to the 95th percentile (log)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1.14), ncols=len(arms), frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
