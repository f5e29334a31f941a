"""Our pi0 and pi0.5 in PyTorch against a peer's: same weights, observation and noise, one run.

Both get a prompt with empty slots and three cameras, one of them masked; ours drops what is masked,
as the policy does, and both give the same actions. Calls alternate, so that a noisy moment hits
both alike. docs/benchmarks.md has the commands, with what each peer needs.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path

import numpy as np
import torch
from torch_case import HORIZON, SIZES, STEPS, Case, make_case

from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.torch_models.flow import Observation
from openpi_flash_models.torch_models.from_tree import build_flow_model
from openpi_flash_models.torch_models.sampler import Sampler

sys.path.insert(0, str(Path(__file__).parents[1]))
from results_page import machine, replace_section

AGREEMENT = 1e-4
PEERS = ("transformers", "lerobot")


@dataclasses.dataclass(frozen=True)
class Row:
    """One model: seconds of every call of ours and of the peer's."""

    name: str
    ours: list[float]
    theirs: list[float]
    difference: float

    @property
    def ratio(self) -> float:
        """Median of ours over median of theirs."""
        return statistics.median(self.ours) / statistics.median(self.theirs)


def main() -> None:
    """Measure, print, and perhaps write the section of a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", choices=PEERS, default="transformers")
    parser.add_argument("--full", action="store_true", help="nothing is masked or empty")
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    peer = import_module(f"{arguments.peer}_peer")
    rows = [
        compare(
            f"{kind}, {size}",
            make_case(kind, size, full=arguments.full),
            peer.sampler,
            arguments.calls,
        )
        for kind in peer.KINDS
        for size in SIZES
    ]
    text = describe(rows, arguments.peer, arguments.calls, arguments.threads)
    print(text)
    if arguments.write:
        replace_section(arguments.write, f"models-{arguments.peer}", text)


def compare(
    name: str, case: Case, peer: Callable[[Case], Callable[[], torch.Tensor]], calls: int
) -> Row:
    """Build both models of the same weights, and ask them in turn."""
    ours, theirs = _ours(case), peer(case)
    difference = float((ours() - theirs()).abs().max())
    if difference > AGREEMENT:
        raise SystemExit(f"{name}: the models differ by {difference}, nothing to compare")
    seconds: tuple[list[float], list[float]] = ([], [])
    for call in range(calls):
        for which in (0, 1) if call % 2 else (1, 0):
            started = time.perf_counter()
            (ours, theirs)[which]()
            seconds[which].append(time.perf_counter() - started)
    return Row(name, *seconds, difference)


def _ours(case: Case) -> Callable[[], torch.Tensor]:
    sampler = Sampler(build_flow_model(nest(case.leaves)["params"], case.shape))
    observation = Observation(
        images=torch.from_numpy(case.images[:, case.present]),
        image_mask=torch.ones(1, int(case.present.sum()), dtype=torch.bool),
        tokens=torch.from_numpy(case.words[None]),
        token_mask=torch.ones(1, len(case.words), dtype=torch.bool),
        state=torch.from_numpy(case.state),
    )
    start = torch.from_numpy(case.noise)
    return lambda: sampler.sample_actions(observation, start, STEPS)


def describe(rows: list[Row], peer: str, calls: int, threads: int) -> str:
    """The table, in Markdown."""
    lines = [
        f"{machine()}, torch {torch.__version__}, {peer} {metadata.version(peer)}, "
        f"float32, {threads} thread(s), n = {calls} each, alternating; {HORIZON} actions, "
        f"{STEPS} steps.",
        "",
        f"| | ours p50 / p99 ms | {peer} p50 / p99 ms | ratio p50 | largest difference |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        ours, theirs = (
            "{:.1f} / {:.1f}".format(*(1000 * np.percentile(each, [50, 99])))
            for each in (row.ours, row.theirs)
        )
        lines.append(f"| {row.name} | {ours} | {theirs} | {row.ratio:.2f} | {row.difference:.0e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
