"""Every chunk method over delay and jitter, in virtual time: tables, CSV and plots.

The robot's own chunk player and request schedule play a policy whose chunks disagree
(`chunk_policy.py`). Nothing is timed, so that the same command gives the same numbers anywhere.

usage: python benchmarks/chunk_methods/sweep.py [--quick] [--write docs]
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from openpi_flash_models.actions.rtc import DEFAULT_RTC, RtcOptions

sys.path.insert(0, str(Path(__file__).parents[1]))

from method_plots import plot_borders, plot_delays, plot_limits
from motion_measures import Measures, measure
from results_page import replace_section
from virtual_play import STOP_AND_GO, Case

DELAYS_MS = (0, 40, 50, 80, 100, 120, 150, 160, 200, 240, 250, 280, 300, 320)
"""Up to 8 steps of 40 ms, and round numbers between, without jitter."""
STEPS_MS = tuple(delay for delay in DELAYS_MS if delay % 40 == 0)
LONG_DELAYS_MS = (400, 480, 560, 640, 720, 800, 960)
JITTER_MS = 60
SEEDS = (1, 2)
SECONDS = 20.0
SHOWN_MS = 120
GOAL = 3.0
"""How many times smoother than stopping between chunks a method should be."""


@dataclass(frozen=True)
class Arm:
    """A row of the tables."""

    name: str
    method: str
    options: RtcOptions = DEFAULT_RTC
    execution_horizon: int = 10
    blend_ms: float = 100.0
    max_jerk: float = 0.0


ARMS = (
    Arm(STOP_AND_GO, STOP_AND_GO),
    Arm("open_loop", "open_loop"),
    Arm("latest_only", "latest_only"),
    Arm("latest", "latest"),
    Arm("weighted_average", "weighted_average"),
    Arm("average", "average"),
    Arm("conservative", "conservative"),
    Arm("temporal_ensemble", "temporal_ensemble"),
    Arm("temporal_ensemble, every 5 steps", "temporal_ensemble", execution_horizon=5),
    Arm("rtc", "rtc"),
    Arm("rtc, vjp on the server", "rtc", RtcOptions("vjp")),
    Arm("rtc_prefix", "rtc_prefix"),
)
PAPERS = RtcOptions(max_guidance=5.0)
FADES = (
    Arm("latest", "latest"),
    Arm("latest, blend_time 0", "latest", blend_ms=0.0),
    Arm("temporal_ensemble", "temporal_ensemble"),
    Arm("temporal_ensemble, blend_time 0", "temporal_ensemble", blend_ms=0.0),
    Arm("rtc", "rtc"),
    Arm("rtc, blend_time 0", "rtc", blend_ms=0.0),
    Arm("rtc, max_guidance 5", "rtc", PAPERS),
    Arm("rtc, max_guidance 5, blend_time 0", "rtc", PAPERS, blend_ms=0.0),
    Arm("rtc_prefix", "rtc_prefix"),
    Arm("rtc_prefix, blend_time 0", "rtc_prefix", blend_ms=0.0),
)
"""Rows without what makes borders smooth."""
JERK_LIMITS = (
    Arm(STOP_AND_GO, STOP_AND_GO),
    *(
        Arm(f"{method}, max_jerk {jerk}" if jerk else method, method, max_jerk=jerk)
        for method in ("latest", "weighted_average", "temporal_ensemble", "rtc", "rtc_prefix")
        for jerk in (0, 400, 200, 100)
    ),
)
"""Rows with a limit of the jerk, m/s^3."""
LONG_ARMS = (STOP_AND_GO, "latest", "rtc", "rtc, vjp on the server", "rtc_prefix")


@dataclass(frozen=True)
class Point:
    """What a row shows at a delay, the mean over the seeds."""

    arm: str
    has_obstacles: bool
    latency_ms: float
    jitter_ms: float
    measures: Measures


def case_of(
    arm: Arm,
    latency_ms: float,
    jitter_ms: float = 0.0,
    *,
    has_obstacles: bool,
    seed: int = SEEDS[0],
    seconds: float = SECONDS,
) -> Case:
    """The run of a row."""
    return Case(
        method=arm.method,
        latency_ms=latency_ms,
        jitter_ms=jitter_ms,
        seed=seed,
        seconds=seconds,
        execution_horizon=arm.execution_horizon,
        options=arm.options,
        blend_ms=arm.blend_ms,
        max_jerk=arm.max_jerk,
        has_obstacles=has_obstacles,
    )


def run(arms: Sequence[Arm], delays: Sequence[tuple[float, float]], seeds: int) -> list[Point]:
    """Play every row on both courses at delays and jitters, ms; two rows at a time."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        rows = pool.map(partial(points_of, delays=delays, seeds=seeds), arms)
        return [point for row in rows for point in row]


def points_of(arm: Arm, delays: Sequence[tuple[float, float]], seeds: int) -> list[Point]:
    """A row at delays and jitters, ms, on both courses."""
    points = []
    for has_obstacles in (False, True):
        for latency_ms, jitter_ms in delays:
            cases = [
                case_of(arm, latency_ms, jitter_ms, has_obstacles=has_obstacles, seed=seed)
                for seed in SEEDS[:seeds]
            ]
            mean = mean_of([measure(case) for case in cases])
            points.append(Point(arm.name, has_obstacles, latency_ms, jitter_ms, mean))
    print(arm.name, file=sys.stderr)
    return points


def mean_of(found: Sequence[Measures]) -> Measures:
    """The mean of each measure."""
    names = [field.name for field in dataclasses.fields(Measures)]
    return Measures(**{n: float(np.mean([getattr(one, n) for one in found])) for n in names})


def chosen(points: Sequence[Point], *, has_obstacles: bool, jitter_ms: float = 0.0) -> list[Point]:
    """The points of one course and jitter."""
    return [
        point
        for point in points
        if point.has_obstacles is has_obstacles and point.jitter_ms == jitter_ms
    ]


def measures_table(points: Sequence[Point], latency_ms: float) -> str:
    """All measures of every row at one delay."""
    lines = [
        "| | kick, m/s | peak jerk, m/s³ | RMS jerk, m/s³ | peak acc., m/s² | RMS acc., m/s² "
        "| at rest | off the way, mm | into obstacles | speed, m/s | first action, ms "
        "| reaction, ms | half-way, ms |",
        "|" + "---|" * 13,
    ]
    plain = {point.arm: point.measures for point in points_at(points, latency_ms, False)}
    for point in points_at(points, latency_ms, True):
        here, calm = point.measures, plain[point.arm]
        lines.append(
            f"| `{point.arm}` | {here.kick:.2f} | {here.peak_jerk:.0f} | {here.rms_jerk:.1f} "
            f"| {here.peak_acceleration:.1f} | {here.rms_acceleration:.2f} "
            f"| {100 * here.rest:.0f} % | {here.off_way:.0f} | {100 * here.collisions:.0f} % "
            f"| {here.speed:.2f} | {here.first_action:.0f} | {calm.reaction:.0f} "
            f"| {_finite(calm.half_reaction)} |"
        )
    return "\n".join(lines)


def points_at(points: Sequence[Point], latency_ms: float, has_obstacles: bool) -> list[Point]:
    """The points at one delay without jitter."""
    found = chosen(points, has_obstacles=has_obstacles)
    return [point for point in found if point.latency_ms == latency_ms]


def ratio_table(
    points: Sequence[Point],
    delays_ms: Sequence[float],
    *,
    has_obstacles: bool,
    jitter_ms: float = 0.0,
) -> str:
    """How many times smaller than of stop-and-go the RMS jerk is, by delay."""
    found = chosen(points, has_obstacles=has_obstacles, jitter_ms=jitter_ms)
    jerk = {(point.arm, point.latency_ms): point.measures.rms_jerk for point in found}
    arms = list(dict.fromkeys(point.arm for point in found if point.arm != STOP_AND_GO))
    lines = [
        "| | " + " | ".join(f"{delay:g} ms" for delay in delays_ms) + " |",
        "|" + "---|" * (len(delays_ms) + 1),
    ]
    for arm in arms:
        ratios = [jerk[STOP_AND_GO, delay] / jerk[arm, delay] for delay in delays_ms]
        cells = [f"**{ratio:.1f}**" if ratio >= GOAL else f"{ratio:.1f}" for ratio in ratios]
        lines.append(f"| `{arm}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def jerk_limits_table(points: Sequence[Point]) -> str:
    """What a limit of the jerk does at one delay, for the rows of `JERK_LIMITS`."""
    lines = [
        "| | peak jerk, m/s³ | RMS jerk, m/s³ | smoother than stop-and-go | peak acc., m/s² "
        "| off the way, mm | into obstacles | first action, ms | reaction, ms | half-way, ms |",
        "|" + "---|" * 10,
    ]
    calm = {point.arm: point.measures for point in chosen(points, has_obstacles=False)}
    for point in chosen(points, has_obstacles=True):
        here, plain = point.measures, calm[point.arm]
        lines.append(
            f"| `{point.arm}` | {here.peak_jerk:.0f} | {here.rms_jerk:.1f} "
            f"| {calm[STOP_AND_GO].rms_jerk / plain.rms_jerk:.1f} | {here.peak_acceleration:.1f} "
            f"| {here.off_way:.0f} | {100 * here.collisions:.0f} % | {here.first_action:.0f} "
            f"| {plain.reaction:.0f} | {_finite(plain.half_reaction)} |"
        )
    return "\n".join(lines)


def fades_table(points: Sequence[Point]) -> str:
    """RMS jerk, and the time to half of a reaction, of the rows of `FADES`."""
    delays = sorted({point.latency_ms for point in points})
    lines = [
        "| | "
        + " | ".join(f"RMS jerk at {delay:g} ms, m/s³" for delay in delays)
        + f" | half-way at {SHOWN_MS} ms, ms |",
        "|" + "---|" * (len(delays) + 2),
    ]
    calm = chosen(points, has_obstacles=False)
    for arm in FADES:
        own = {point.latency_ms: point.measures for point in calm if point.arm == arm.name}
        jerks = " | ".join(f"{own[delay].rms_jerk:.1f}" for delay in delays)
        lines.append(f"| `{arm.name}` | {jerks} | {_finite(own[SHOWN_MS].half_reaction)} |")
    return "\n".join(lines)


def _finite(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "never"


def write_csv(points: Sequence[Point], path: Path) -> None:
    """One line for each point."""
    names = [field.name for field in dataclasses.fields(Measures)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["arm", "has_obstacles", "latency_ms", "jitter_ms", *names])
        for point in points:
            values = [f"{getattr(point.measures, name):.5g}" for name in names]
            row = (point.arm, int(point.has_obstacles), point.latency_ms, point.jitter_ms)
            writer.writerow([*row, *values])


def main() -> None:
    """Run the sweep, print the tables, and write them where they are wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("--quick", action="store_true", help="few delays and one seed")
    parser.add_argument("--write", type=Path, metavar="docs", help="folder of the page to rewrite")
    arguments = parser.parse_args()
    seeds = 1 if arguments.quick else len(SEEDS)
    delays: list[tuple[float, float]] = [(delay, 0.0) for delay in DELAYS_MS]
    delays += [(delay, JITTER_MS) for delay in STEPS_MS]
    if arguments.quick:
        delays = [(0, 0), (SHOWN_MS, 0), (320, 0)]
    points = run(ARMS, delays, seeds)
    long_arms = [arm for arm in ARMS if arm.name in LONG_ARMS]
    long_delays = [(delay, 0.0) for delay in LONG_DELAYS_MS[:: 3 if arguments.quick else 1]]
    beyond = run(long_arms, long_delays, seeds)
    shown = [delay for delay in STEPS_MS if (delay, 0) in delays]
    sections = {
        "measures": measures_table(points, SHOWN_MS),
        "ratios-one-way": ratio_table(points, shown, has_obstacles=False),
        "ratios-two-ways": ratio_table(points, shown, has_obstacles=True),
    }
    if not arguments.quick:
        sections["ratios-jitter"] = ratio_table(
            points, shown, has_obstacles=False, jitter_ms=JITTER_MS
        )
    sections["fades"] = fades_table(run(FADES, [(0, 0), (SHOWN_MS, 0), (320, 0)], seeds))
    limited = [
        arm for arm in JERK_LIMITS if not arguments.quick or arm.method in (STOP_AND_GO, "latest")
    ]
    sections["jerk-limits"] = jerk_limits_table(run(limited, [(SHOWN_MS, 0)], seeds))
    sections["ratios-long"] = ratio_table(
        beyond, sorted({point.latency_ms for point in beyond}), has_obstacles=False
    )
    for name, text in sections.items():
        print(f"\n{name}\n\n{text}")
        if arguments.write:
            replace_section(arguments.write / "chunk-methods.md", name, text)
    if arguments.write:
        write_csv([*points, *beyond], arguments.write / "chunk-methods.csv")
        images = arguments.write / "images"
        shown_arms = [arm for arm in ARMS if arm.execution_horizon == 10]
        plot_borders(
            [(arm.name, case_of(arm, SHOWN_MS, has_obstacles=True)) for arm in shown_arms],
            images / "chunk_methods_borders.png",
        )
        plot_delays(points, images / "chunk_methods_delays.png")
        plot_limits([*points, *beyond], LONG_ARMS, images / "chunk_methods_limits.png")


class _Plain(argparse.RawDescriptionHelpFormatter):
    pass


if __name__ == "__main__":
    main()
