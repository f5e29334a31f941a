"""Draws a dataset: lengths and tasks, ranges, one episode, a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")  # no window, whatever the machine has

import numpy as np
from matplotlib import pyplot as plt
from PIL import Image, ImageDraw

from openpi_flash_training.dataset.reader import Dataset
from openpi_flash_training.inspection.summary import Ranges, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHEET_EPISODES = 8
SHEET_TIMES = 6
SHEET_SIDE = 128
_LABEL = 18
_MOST_TASKS = 12
_MOST_LETTERS = 40


def draw_overview(path: Path, dataset: Dataset, summary: Summary) -> None:
    """Draw lengths, tasks and ranges.

    Args:
        path: of the PNG file.
        dataset: for its rate.
        summary: of the dataset.
    """
    figure, panels = plt.subplots(
        1, 2 + len(summary.ranges), figsize=(5 * (2 + len(summary.ranges)), 4.5), squeeze=False
    )
    _draw_lengths(panels[0, 0], dataset, summary)
    _draw_tasks(panels[0, 1], dataset, summary)
    for axes, ranges in zip(panels[0, 2:], summary.ranges, strict=True):
        _draw_ranges(axes, ranges)
    figure.suptitle(
        f"{dataset.folder.name}: {len(summary.lengths)} episodes, {dataset.frames} frames at "
        f"{dataset.fps} Hz"
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_episode(path: Path, dataset: Dataset, summary: Summary, episode: int) -> None:
    """Draw state and action of an episode over time.

    Args:
        path: of the PNG file.
        dataset: for its rate.
        summary: of the dataset.
        episode: index.
    """
    names = list(dict.fromkeys(n for c in summary.columns.values() for n in c.names))
    columns = 2 if len(names) > 4 else 1
    rows = -(-len(names) // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(6.5 * columns, 1.5 * rows + 1), sharex=True, squeeze=False
    )
    for name, axes in zip(names, panels.T.reshape(-1), strict=False):
        for key, column in summary.columns.items():
            if name in column.names:
                values = column.episodes[episode][:, column.names.index(name)]
                times = np.arange(len(values)) / dataset.fps
                axes.plot(times, values, label=key, lw=1.2)
        axes.set_ylabel(name, fontsize=8)
        axes.grid(alpha=0.3)
    for axes in panels.T.reshape(-1)[len(names) :]:
        axes.axis("off")
    panels[0, 0].legend(fontsize=7, loc="best")
    for axes in panels.T:
        used = [one for one in axes if one.axison]
        used[-1].tick_params(labelbottom=True)
        used[-1].set_xlabel("s")
    figure.suptitle(f"{dataset.folder.name}, episode {episode}: {summary.task_of[episode]}")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_contact_sheet(path: Path, dataset: Dataset, episodes: Sequence[int]) -> None:
    """Draw images of some episodes: a row an episode and camera, from begin to end.

    Args:
        path: of the PNG file.
        dataset: read from.
        episodes: indices.

    Raises:
        DataError: an image cannot be read.
    """
    rows = [(episode, camera) for episode in episodes for camera in dataset.cameras]
    height = (SHEET_SIDE + _LABEL) * len(rows)
    sheet = Image.new("RGB", (SHEET_SIDE * SHEET_TIMES, max(height, 1)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (episode, camera) in enumerate(rows):
        found = dataset.episodes[episode]
        frames = np.linspace(0, found.length - 1, SHEET_TIMES).round().astype(int).tolist()
        top = row * (SHEET_SIDE + _LABEL)
        seconds = ", ".join(f"{frame / dataset.fps:.1f}" for frame in frames)
        label = f"episode {episode}  {camera.removeprefix('observation.images.')}  {seconds} s"
        draw.text((4, top + 3), f"{label}  {found.tasks[0]}", fill="black")
        for place, image in enumerate(dataset.images(episode, camera, frames)):
            small = Image.fromarray(image)
            small.thumbnail((SHEET_SIDE, SHEET_SIDE))
            sheet.paste(small, (place * SHEET_SIDE, top + _LABEL))
    sheet.save(path)


def sheet_episodes(dataset: Dataset) -> list[int]:
    """Episodes for a contact sheet, spread over the dataset."""
    count = len(dataset.episodes)
    spread = np.linspace(0, count - 1, min(count, SHEET_EPISODES)).round()
    return sorted({int(index) for index in spread})


def _draw_lengths(axes: Axes, dataset: Dataset, summary: Summary) -> None:
    seconds = np.array(summary.lengths) / dataset.fps
    axes.bar(range(len(seconds)), seconds, width=1.0, edgecolor="white", linewidth=0.3)
    middle = float(np.median(seconds))
    axes.axhline(middle, color="black", lw=0.8, ls="--", label=f"median {middle:.1f} s")
    axes.set_xlabel("episode")
    axes.set_ylabel("s")
    axes.set_title("length")
    _legend_below(axes)


def _draw_tasks(axes: Axes, dataset: Dataset, summary: Summary) -> None:
    tasks = list(summary.tasks.items())[:_MOST_TASKS]
    words = [w if len(w) <= _MOST_LETTERS else f"{w[: _MOST_LETTERS - 2]} …" for w, _ in tasks]
    axes.barh(range(len(tasks)), [frames / dataset.fps for _, frames in tasks])
    axes.set_yticks(range(len(tasks)), words, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("s")
    axes.set_title(f"tasks ({len(summary.tasks)})")


def _draw_ranges(axes: Axes, ranges: Ranges) -> None:
    low, q01, middle, q99, high = ranges.quantiles
    places = np.arange(len(ranges.names))
    axes.hlines(places, low, high, color="0.7", lw=1, label="minimum to maximum")
    axes.hlines(places, q01, q99, color="C0", lw=6, label="1st to 99th percentile")
    axes.plot(middle, places, "|", color="black", label="median")
    axes.set_yticks(places, ranges.names, fontsize=8)
    axes.invert_yaxis()
    axes.set_title(ranges.key)
    axes.grid(axis="x", alpha=0.3)
    _legend_below(axes)


def _legend_below(axes: Axes) -> None:
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=3, frameon=False)
