"""Our training step against LeRobot's: same weights, batch, noise, times and optimiser, one run.

The losses of all steps must agree, so that both have computed the same updates. Steps alternate,
so that a noisy moment hits both alike, and are counted in CPU time, which other programs on the
machine change little. LeRobot runs in an environment of its own, with
openpi_flash_models beside it for the weights.

    python benchmarks/models/train_peer.py --lerobot VENV/bin/python [--write docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
from train_case import StepCost

sys.path.insert(0, str(Path(__file__).parents[1]))
from results_page import machine, replace_section

SIZES = {"dispatch-bound": 8, "compute-bound": 2}
"""Rows of a batch."""
AGREEMENT = 1e-3
"""Largest relative difference of the two losses of any step."""
LEFT_OUT = 2
"""First steps, which allocate."""
ARMS = ("ours", "lerobot")
HERE = Path(__file__).parent


class Arm:
    """A process that does updates when asked."""

    def __init__(self, name: str, python: str, arguments: list[str]) -> None:
        self._name = name
        environment = dict(os.environ)
        if name == "lerobot":
            environment.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(
            [python, str(HERE / f"train_{name}.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._read()

    def step(self, number: int) -> StepCost:
        """What an update took."""
        assert self._process.stdin is not None
        print(number, file=self._process.stdin, flush=True)
        return StepCost(**json.loads(self._read()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the arm {self._name} ended with {self._process.wait()}")
        return line


def main() -> None:
    """Measure, print, and perhaps write the section of a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lerobot", required=True, help="a Python that has lerobot")
    parser.add_argument("--steps", type=int, default=15, help="of each arm and model")
    parser.add_argument("--cores", type=int, default=1, help="that both arms run on")
    parser.add_argument("--kind", choices=("pi0", "pi05"), action="append")
    parser.add_argument("--size", choices=list(SIZES), action="append")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    lines, loads = [], [os.getloadavg()[0]]
    for kind in given.kind or ("pi0", "pi05"):
        for size in given.size or SIZES:
            costs = compare(kind, size, given.lerobot, given.steps, given.cores)
            lines.append(row(f"{kind}, {size}, batch {SIZES[size]}", costs))
            print(lines[-1], flush=True)
            loads.append(os.getloadavg()[0])
    text = "\n".join((*head(given.lerobot, given.steps, given.cores, loads), *lines))
    print(text)
    if given.write:
        replace_section(given.write, "training-lerobot", text)


def compare(kind: str, size: str, python: str, steps: int, cores: int) -> dict[str, list[StepCost]]:
    """What the steps of each arm took, the first ones left out."""
    pythons = {"ours": sys.executable, "lerobot": python}
    costs: dict[str, list[StepCost]] = {name: [] for name in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        shared = ["--kind", kind, "--size", size, "--batch", str(SIZES[size])]
        shared += ["--cores", str(cores), "--draws", str(Path(folder) / "draws.npz")]
        # ours first: it writes the draws
        arms = {name: Arm(name, pythons[name], shared) for name in ARMS}
        for number in range(LEFT_OUT + steps):
            for name in ARMS if number % 2 else reversed(ARMS):
                costs[name].append(arms[name].step(number))
            ours, theirs = (costs[name][-1].loss for name in ARMS)
            if not abs(ours - theirs) < AGREEMENT * abs(theirs):
                raise SystemExit(f"{kind}, {size}: the losses of step {number}: {ours}, {theirs}")
        for arm in arms.values():
            arm.close()
    return {name: each[LEFT_OUT:] for name, each in costs.items()}


def head(python: str, steps: int, cores: int, loads: list[float]) -> list[str]:
    """The lines above the rows."""
    code = "from importlib.metadata import version as v; print(v('lerobot'), v('torch'))"
    found = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    lerobot, torch = found.stdout.split()
    return [
        f"{machine()}, {os.cpu_count()} cores, load {min(loads):.1f} to {max(loads):.1f}; jax "
        f"{metadata.version('jax')}; lerobot {lerobot}, torch {torch}, not compiled; float32, "
        f"{cores} core(s), n = {steps} steps each, alternating.",
        "",
        "| | ours, CPU ms p50 / p99 | LeRobot, CPU ms p50 / p99 | ratio p50 | ratio of wall "
        "time | peak MB, ours / LeRobot | losses differ by |",
        "|---|---|---|---|---|---|---|",
    ]


def row(name: str, costs: dict[str, list[StepCost]]) -> str:
    """A model's line."""
    cpu = {arm: np.array([cost.cpu for cost in costs[arm]]) for arm in ARMS}
    wall = {arm: float(np.median([cost.seconds for cost in costs[arm]])) for arm in ARMS}
    times = ["{:.0f} / {:.0f}".format(*(1000 * np.percentile(cpu[a], [50, 99]))) for a in ARMS]
    ratio = float(np.median(cpu["ours"]) / np.median(cpu["lerobot"]))
    differ = max(
        abs(a.loss - b.loss) / abs(b.loss) for a, b in zip(*(costs[x] for x in ARMS), strict=True)
    )
    peaks = " / ".join(f"{costs[arm][-1].peak_mb:.0f}" for arm in ARMS)
    return (
        f"| {name} | {times[0]} | {times[1]} | {ratio:.2f} | "
        f"{wall['ours'] / wall['lerobot']:.2f} | {peaks} | {differ:.0e} |"
    )


if __name__ == "__main__":
    main()
