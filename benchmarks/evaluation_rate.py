"""Episodes per minute of `openpi-flash eval`, by one worker process and by several, in turns.

Each turn plays the same starts from the start of its workers to the last result. The expert is
asked in the worker itself and sees no pictures; a checkpoint is served, and the cameras are drawn.
Where Ray is installed its workers are measured, too, on a Ray of this machine that has started.

usage: python benchmarks/evaluation_rate.py [--checkpoint DIR] [--write PAGE]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import os
import resource
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openpi_flash_training.evaluation.policy_choice import PolicyChoice
    from openpi_flash_training.evaluation.ray_cluster import RayCluster

SEED = 7
EXPERT, SERVED = "the expert", "a served policy"


@dataclass(frozen=True)
class Turn:
    """One evaluation."""

    policy: str
    workers: int
    is_on_ray: bool
    per_minute: float
    """Episodes, of the wall clock."""
    cpu: float
    """Seconds of the workers' CPU time per episode; the server's is not counted. NaN on Ray."""
    successes: int


def main() -> None:
    """Run all turns and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, help="of the config pi05_sim_cubes")
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--workers", type=int, default=max(2, os.cpu_count() or 2))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--write", type=Path, help="replace the table in this Markdown file")
    args = parser.parse_args()
    turns: list[Turn] = []
    with policies(args.checkpoint) as choices, ray_workers(args.workers) as cluster:
        kinds: list[tuple[int, RayCluster | None]] = [(1, None), (args.workers, None)]
        kinds += [] if cluster is None else [(args.workers, cluster)]
        for number in range(args.turns):
            for name, choice in choices.items():
                for workers, on_ray in kinds if number % 2 == 0 else reversed(kinds):
                    turns.append(play(name, choice, args.episodes, workers, on_ray))
    text = describe(turns, args.episodes, args.turns)
    print(text)
    if args.write:
        from results_page import replace_section

        replace_section(args.write, "evaluation-rate", text)


@contextlib.contextmanager
def policies(checkpoint: Path | None) -> Iterator[dict[str, PolicyChoice]]:
    """What is evaluated, by name."""
    from openpi_flash_training.evaluation.server_process import serving
    from sim_robot.shipped_policy import CONFIG, ROBOT_FILE, shipped_policy

    shipped = shipped_policy()
    action = checkpoint or (None if shipped is None else shipped.action)
    if action is None:
        yield {EXPERT: None}
        return
    with serving(CONFIG, str(action), robot_file=ROBOT_FILE) as choice:
        yield {EXPERT: None, SERVED: choice}


@contextlib.contextmanager
def ray_workers(count: int) -> Iterator[RayCluster | None]:
    """A Ray of this machine; None where it is not installed."""
    if importlib.util.find_spec("ray") is None:
        yield None
        return
    from openpi_flash_training.evaluation.ray_cluster import LOCAL, RayCluster

    with RayCluster(LOCAL, count) as cluster:
        yield cluster


def play(
    name: str, choice: PolicyChoice, episodes: int, workers: int, cluster: RayCluster | None
) -> Turn:
    """Play `touch` from the first starts."""
    from openpi_flash_training.evaluation.conditions import Conditions, trials
    from openpi_flash_training.evaluation.run import run_policies
    from openpi_flash_training.evaluation.worker_processes import WorkerProcesses

    players = WorkerProcesses(workers) if cluster is None else cluster
    before, began = cpu_seconds(), time.monotonic()
    (results,) = run_policies(
        [choice], trials("touch", episodes, SEED, Conditions()), workers=players
    )
    seconds, cpu = time.monotonic() - began, (cpu_seconds() - before) / episodes
    done = sum(result.is_success for result in results)
    if cluster is not None:
        cpu = math.nan
    return Turn(name, workers, cluster is not None, 60 * episodes / seconds, cpu, done)


def cpu_seconds() -> float:
    """Of processes that have ended: a server that runs on is not one of them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def describe(turns: list[Turn], episodes: int, count: int) -> str:
    """The table."""
    from results_page import machine

    lines = [
        f"{machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {episodes} episodes "
        f"of `touch` a turn, n = {count} turns, interleaved; medians.",
        "",
        "| policy | workers | episodes per minute | of one worker's | worker CPU s an episode "
        "| successes |",
        "|---|---|---|---|---|---|",
    ]
    alone: dict[str, float] = {}
    for kind in dict.fromkeys(map(_kind, sorted(turns, key=_kind))):
        own = [turn for turn in turns if _kind(turn) == kind]
        policy, workers = own[0].policy, f"{own[0].workers}{' on Ray' * own[0].is_on_ray}"
        rate = statistics.median(t.per_minute for t in own)
        ratio = rate / alone.setdefault(policy, rate)
        cpu = statistics.median(t.cpu for t in own)
        spent = "–" if math.isnan(cpu) else f"{cpu:.2f}"
        done = sorted({t.successes for t in own})
        said = "-".join(str(n) for n in dict.fromkeys((done[0], done[-1])))
        lines.append(
            f"| {policy} | {workers} | {rate:.0f} | {ratio:.2f} | {spent} | {said} of {episodes} |"
        )
    return "\n".join(lines)


def _kind(turn: Turn) -> tuple[bool, bool, int]:
    return turn.policy != EXPERT, turn.is_on_ray, turn.workers


if __name__ == "__main__":
    main()
