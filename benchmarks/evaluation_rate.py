"""Episodes per minute of `openpi-flash eval`, by one worker process and by several, in turns.

Each turn plays the same starts from the start of its workers to the last result. The expert is
asked in the worker itself and sees no pictures; a checkpoint is served, and the cameras are drawn.

usage: python benchmarks/evaluation_rate.py [--checkpoint DIR] [--write PAGE]
"""

from __future__ import annotations

import argparse
import contextlib
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

SEED = 7
EXPERT, SERVED = "the expert", "a served policy"


@dataclass(frozen=True)
class Turn:
    """One evaluation."""

    policy: str
    workers: int
    per_minute: float
    """Episodes, of the wall clock."""
    cpu: float
    """Seconds of the workers' CPU time per episode; the server's is not counted."""
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
    with policies(args.checkpoint) as choices:
        for number in range(args.turns):
            counts = (1, args.workers)
            for name, choice in choices.items():
                for workers in counts if number % 2 == 0 else reversed(counts):
                    turns.append(play(name, choice, args.episodes, workers))
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


def play(name: str, choice: PolicyChoice, episodes: int, workers: int) -> Turn:
    """Play `touch` from the first starts."""
    from openpi_flash_training.evaluation.conditions import Conditions, trials
    from openpi_flash_training.evaluation.run import run_trials

    before, began = cpu_seconds(), time.monotonic()
    results = run_trials(choice, trials("touch", episodes, SEED, Conditions()), workers=workers)
    seconds, cpu = time.monotonic() - began, cpu_seconds() - before
    done = sum(result.is_success for result in results)
    return Turn(name, workers, 60 * episodes / seconds, cpu / episodes, done)


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
        "| policy | workers | episodes per minute | worker CPU s an episode | successes |",
        "|---|---|---|---|---|",
    ]
    for policy, workers in dict.fromkeys(
        (turn.policy, turn.workers) for turn in sorted(turns, key=_order)
    ):
        own = [t for t in turns if (t.policy, t.workers) == (policy, workers)]
        rate = statistics.median(t.per_minute for t in own)
        cpu = statistics.median(t.cpu for t in own)
        done = sorted({t.successes for t in own})
        said = "-".join(str(n) for n in dict.fromkeys((done[0], done[-1])))
        lines.append(f"| {policy} | {workers} | {rate:.0f} | {cpu:.2f} | {said} of {episodes} |")
    return "\n".join(lines)


def _order(turn: Turn) -> tuple[bool, int]:
    return turn.policy != EXPERT, turn.workers


if __name__ == "__main__":
    main()
