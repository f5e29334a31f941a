"""The chart on the README's first screen, drawn from the tables of docs/benchmarks.md.

Nothing is measured here: every number is one that a benchmark has written to that page.

usage: python benchmarks/first_screen.py   (after a benchmark with --write)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "benchmarks.md"
CHART = DOCS / "images" / "first_screen.png"

OURS, OURS_BY_WEBSOCKET = "#2f6fb2", "#9dbde0"
OPENPI, OPENPI_TUNED, HEBBIAN = "#8c8c8c", "#b9b9b9", "#c2a14d"
INK, FAINT = "#1f2328", "#6e7781"


@dataclass(frozen=True)
class Bar:
    """One measured way to an answer.

    Attributes:
        label: beside the bar; which client asked which server.
        p50: median round trip, ms.
        high: the percentile beside it, ms: the 99th on one host, the 95th over a network.
        colour: of whose software it is.
    """

    label: str
    p50: float
    high: float
    colour: str


def main() -> None:
    """Draw the chart."""
    page = PAGE.read_text()
    draw(same_host_bars(page), network_groups(page), CHART)
    print(CHART)


def same_host_bars(page: str) -> list[Bar]:
    """Return the rows of the transport benchmark with glibc's malloc as it is, slowest first."""
    section = _section(page, "transport").split("**malloc keeps its pages**")[0]
    bars = []
    for name, p50, p99 in re.findall(
        r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) \| [\d.]+ \(", section, re.MULTILINE
    ):
        if name.startswith("openpi-client, server of openpi's protocol"):
            bars.append(Bar("openpi's client, openpi's protocol", float(p50), float(p99), OPENPI))
        elif name.startswith("openpi-client, openpi-flash"):
            label = "openpi's client, openpi-flash by WebSocket"
            bars.append(Bar(label, float(p50), float(p99), OURS_BY_WEBSOCKET))
        elif name.startswith("Hebbian's openpi-flash"):
            bars.append(Bar("Hebbian's client, Hebbian's server", float(p50), float(p99), HEBBIAN))
        elif name.startswith("FlashTransportPolicy"):
            (way,) = re.findall(r"\((.+)\)", name)
            bars.append(Bar(f"our client, openpi-flash by {way}", float(p50), float(p99), OURS))
    return sorted(bars, key=lambda bar: -bar.p50)


def network_groups(page: str) -> list[tuple[str, list[Bar]]]:
    """Return each path of the network benchmark with the bars of its arms."""
    groups = []
    for line in _section(page, "network").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        pairs = [re.fullmatch(r"([\d.]+) / ([\d.]+)", cell) for cell in cells[2:5]]
        if len(pairs) != 3 or None in pairs:
            continue
        arms = (
            ("openpi's client, TCP CUBIC (Linux's default)", OPENPI),
            ("openpi's client, TCP BBR", OPENPI_TUNED),
            ("openpi-flash, QUIC", OURS),
        )
        bars = [
            Bar(label, float(pair.group(1)), float(pair.group(2)), colour)
            for (label, colour), pair in zip(arms, pairs, strict=True)
            if pair is not None
        ]
        groups.append((cells[0], bars))
    return groups


def _section(page: str, name: str) -> str:
    found = re.search(f"<!-- {name}: begin -->(.*?)<!-- {name}: end -->", page, re.DOTALL)
    if found is None:
        raise SystemExit(f"{PAGE} has no section {name!r}; run the benchmark with --write")
    return found.group(1)


def draw(same_host: list[Bar], network: list[tuple[str, list[Bar]]], path: Path) -> None:
    """Save both panels as one PNG on white, which is readable on light and dark pages."""
    plt.rcParams.update({"font.size": 9, "text.color": INK, "axes.edgecolor": FAINT})
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.3), gridspec_kw={"width_ratios": [1, 1.35]}
    )
    _draw_same_host(left, same_host)
    _draw_network(right, network)
    for panel in (left, right):
        panel.spines[["top", "right", "bottom"]].set_visible(False)
        panel.tick_params(bottom=False, labelbottom=False, left=False)
    figure.text(
        0.5, 0.015, "three camera images of 224 x 224 pixels, a policy that answers at once; "
        "shorter is better; no GPU was measured",
        ha="center", fontsize=8, color=FAINT,
    )  # fmt: skip
    figure.tight_layout(rect=(0, 0.05, 1, 1), w_pad=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor="white")
    plt.close(figure)


def _draw_same_host(panel: Axes, bars: list[Bar]) -> None:
    for row, bar in enumerate(bars):
        panel.barh(row, bar.p50, 0.62, color=bar.colour)
        panel.text(bar.p50, row, f"  {bar.p50:.1f} ms  (p99 {bar.high:.1f})", va="center")
    panel.set_yticks(range(len(bars)), [bar.label.replace(", ", ",\n") for bar in bars])
    panel.invert_yaxis()
    panel.set_xlim(0, 1.55 * max(bar.p50 for bar in bars))
    panel.set_title("Round trip on one computer, median", fontsize=10, loc="left")


def _draw_network(panel: Axes, groups: list[tuple[str, list[Bar]]]) -> None:
    height = 0.25
    for group, (_, bars) in enumerate(groups):
        for row, bar in enumerate(bars):
            place = group + (row - 1) * height
            label = bar.label if group == 0 else "_nolegend_"
            panel.barh(place, bar.p50, height, color=bar.colour, label=label)
            panel.text(bar.p50, place, f"  {bar.p50:.0f} ms", va="center", fontsize=8)
    panel.set_yticks(range(len(groups)), [title.replace(", ", ",\n", 1) for title, _ in groups])
    panel.invert_yaxis()
    panel.set_xlim(0, 1.12 * max(bar.p50 for _, bars in groups for bar in bars))
    panel.set_title(
        "Round trip over an emulated network of 1 Gb/s, median", fontsize=10, loc="left"
    )
    # the group with the shortest bars has room beside them
    shortest = min(range(len(groups)), key=lambda group: max(bar.p50 for bar in groups[group][1]))
    middle = 1 - (shortest + 0.5) / len(groups)
    panel.legend(loc="center right", bbox_to_anchor=(1.0, middle), fontsize=8, frameon=False)


if __name__ == "__main__":
    main()
