"""Compiles the models' programs of real size for a GPU that is not there, and reads what came out.

XLA needs a description of a GPU, not the GPU. It says which kernels a call launches, what they
move and compute, what lies in one CUDA graph, where the host is asked, and how much memory the
call needs. Nothing runs. XLA cannot time kernels here, so it keeps its own (Triton's) for matrix
products where it would choose cuBLAS on the machine itself; times are estimates
(``gpu_estimate.py``).

Needs ``jax[cuda13]`` (4.3 GB) in an environment of its own, and no GPU:

    uv venv -p 3.11 gpu && uv pip install -p gpu/bin/python "jax[cuda13]" -e src/openpi_flash_models
    gpu/bin/python benchmarks/models/gpu_program.py --write docs/models.md

usage: python benchmarks/models/gpu_program.py [--target h200]... [--only TEXT] [--write PAGE] [--keep DIR]
"""  # noqa: E501

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from gpu_cases import Case, lower, weight_bytes
from gpu_estimate import Totals, alone, floor_seconds, fused_kernel, totals
from gpu_hlo import Block, read
from gpu_targets import LAUNCH_S, TARGETS, Target
from results_page import replace_section

THREE = Case()
CASES = (
    THREE,
    dataclasses.replace(THREE, switches="xla"),
    dataclasses.replace(THREE, switches="loop"),
    dataclasses.replace(THREE, cameras=2),
    dataclasses.replace(THREE, cameras=1),
    dataclasses.replace(THREE, slots=32),
    dataclasses.replace(THREE, slots=200),
    dataclasses.replace(THREE, batch=2),
    dataclasses.replace(THREE, batch=4),
    dataclasses.replace(THREE, batch=8),
    dataclasses.replace(THREE, method="vjp"),
    dataclasses.replace(THREE, method="prefix"),
    Case(kind="pi0", slots=48),
    Case("read"),
    Case("speak"),
    Case("fast", "pi0_fast"),
    dataclasses.replace(THREE, weights="float8"),
    dataclasses.replace(THREE, weights="int8"),
    Case("read", weights="float8"),
    Case("speak", weights="float8"),
)


@dataclass(frozen=True)
class Compiled:
    """What XLA made of one case for one GPU.

    Attributes:
        case: which program.
        target: for which GPU.
        seconds: that it took to compile, here.
        block: what it launches.
        graphs: CUDA graphs that a call launches one after the other.
        outside: kernels that are in no graph.
        arguments: bytes of weights and inputs.
        temporary: bytes that a call needs besides.
        weights: bytes of the model's weights.
    """

    case: Case
    target: Target
    seconds: float
    block: Block
    graphs: int
    outside: int
    arguments: int
    temporary: int
    weights: int

    @property
    def totals(self) -> Totals:
        """Of a call."""
        return totals(self.block, self.target, self.case.unknown_loops)

    @property
    def before(self) -> Totals:
        """Of the prefix: all that is in no loop."""
        return alone(self.block, self.target)

    @property
    def turn(self) -> Totals:
        """Of one step or token: the innermost loop's body."""
        body = self.block
        while body.loops:
            body = body.loops[-1][0]
        return alone(body, self.target)

    @property
    def round_trips(self) -> int:
        """How often a call waits for the host."""
        return self.block.round_trips(self.case.unknown_loops)

    def products(self) -> Counter[str]:
        """Operations by the dtypes of the products' operands."""
        counted: Counter[str] = Counter()
        for kernel, count in self.block.turns(self.case.unknown_loops):
            for product in kernel.products:
                counted[f"{product.left} x {product.right}"] += count * product.operations
        return counted


def main() -> None:
    """Compile, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", choices=TARGETS, help="default: all")
    parser.add_argument("--only", default="", help="cases whose names this pattern is found in")
    parser.add_argument("--write", type=Path, help="page with markers for the tables")
    parser.add_argument("--keep", type=Path, help="directory for HLO and thunks")
    arguments = parser.parse_args()
    made = []
    for key in arguments.target or TARGETS:
        # every case on the first GPU, on the others the usual call
        for case in CASES if key == (arguments.target or list(TARGETS))[0] else CASES[:1]:
            if re.search(arguments.only, case.name):
                made.append(compile_for(TARGETS[key], case, arguments.keep))
                print(line(made[-1]), flush=True)
    text = describe(made)
    print(text)
    if arguments.write:
        replace_section(arguments.write, "gpu-program", text)


def compile_for(target: Target, case: Case, keep: Path | None = None) -> Compiled:
    """Compile one case.

    Raises:
        RuntimeError: jax's CUDA plugin is not installed.
    """
    try:
        topology = topologies.get_topology_desc(
            target.name, "cuda", target_config=target.description, topology="1x1x1"
        )
    except Exception as error:
        raise RuntimeError(
            f'compiling for {target.name} needs jax\'s CUDA plugin, `pip install "jax[cuda13]"`: '
            f"{error}"
        ) from error
    devices: Any = topology.devices
    whole: Any = PartitionSpec
    sharding = NamedSharding(Mesh(np.array(devices[:1]), ("x",)), whole())
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        lowered, options = lower(case, sharding)
        compiled = lowered.compile(compiler_options=options | {"xla_dump_to": scratch})
        thunks = next(Path(scratch).glob("*thunk_sequence_after_thunk_passes.txt")).read_text()
    seconds = time.perf_counter() - started
    text = compiled.as_text()
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        stem = f"{case.name}-{target.name.replace(' ', '_')}"
        (keep / f"{stem}.hlo.txt").write_text(text)
        (keep / f"{stem}.thunks.txt").write_text(thunks)
    memory = compiled.memory_analysis()
    graphs, outside = in_graphs(thunks)
    return Compiled(
        case=case,
        target=target,
        seconds=seconds,
        block=read(text, fused_kernel),
        graphs=graphs,
        outside=outside,
        arguments=memory.argument_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        weights=weight_bytes(case),
    )


def in_graphs(thunks: str) -> tuple[int, int]:
    """CUDA graphs, and what is launched outside of them, of XLA's list of thunks."""
    graphs = outside = 0
    depth: int | None = None
    for raw in thunks.splitlines():
        found = re.match(r"( *)\d+: (k\w+)", raw)
        if not found:
            continue
        indent, kind = len(found[1]), found[2]
        if depth is not None and indent > depth:
            continue
        depth = None
        if kind == "kCommandBuffer":
            graphs += 1
            depth = indent
        elif kind not in ("kWhile", "kSequential"):
            outside += 1
    return graphs, outside


def line(made: Compiled) -> str:
    """One case, for a terminal."""
    total, turn = made.totals, made.turn
    return json.dumps(
        {
            "case": made.case.name,
            "gpu": made.target.name,
            "kernels": total.kernels,
            "before": made.before.kernels,
            "turn": turn.kernels,
            "GB": round(total.bytes / 1e9, 2),
            "TFLOP": round(total.operations / 1e12, 2),
            "ms": round(total.seconds * 1e3, 2),
            "ms before": round(made.before.seconds * 1e3, 2),
            "ms turn": round(turn.seconds * 1e3, 3),
            "round trips": made.round_trips,
            "graphs": made.graphs,
            "outside": made.outside,
            "arguments GB": round(made.arguments / 1e9, 3),
            "temporary GB": round(made.temporary / 1e9, 3),
            "compile s": round(made.seconds),
        }
    )


def describe(rows: list[Compiled]) -> str:
    """The tables, in Markdown."""
    lines = [
        f"jax {jax.__version__}, bfloat16, 10 steps of 50 actions, {LAUNCH_S * 1e6:.0f} us a "
        "kernel; prompt slots after the model, rows of a batch where there are several.",
        "",
        "| GPU | program | kernels: all (before the loop, each turn) | GB | TFLOP | ms estimated "
        "(before, each turn) | floor ms | CUDA graphs + kernels outside | asks the host | "
        "temporary GB | products in bfloat16 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        total, before, turn = row.totals, row.before, row.turn
        products = row.products()
        whole = sum(products.values())
        floor = floor_seconds(row.weights, total.operations, row.target)
        kernels = times = ""
        if row.block.loops:
            kernels = f" ({before.kernels}, {turn.kernels})"
            times = f" ({before.seconds * 1e3:.1f}, {turn.seconds * 1e3:.2f})"
        lines.append(
            f"| {row.target.name.removeprefix('NVIDIA ')} | {title(row.case)} "
            f"| {total.kernels:,}{kernels} "
            f"| {total.bytes / 1e9:.1f} | {total.operations / 1e12:.2f} "
            f"| {total.seconds * 1e3:.1f}{times} "
            f"| {floor * 1e3:.1f} | {row.graphs} + {row.outside} | {row.round_trips} "
            f"| {row.temporary / 1e9:.2f} "
            f"| {100 * products['bf16 x bf16'] / max(whole, 1):.1f} % |"
        )
    return "\n".join(lines)


def title(case: Case) -> str:
    """A case in words."""
    kinds = {"pi05": "pi0.5", "pi0": "pi0", "pi0_fast": "pi0-FAST"}
    parts = {
        "action": "action",
        "read": "planner, prefix",
        "speak": "planner, 19 tokens",
        "fast": "all of 256 tokens",
    }
    said = [f"{kinds[case.kind]} {case.slots}", parts[case.part], f"{case.cameras} cameras"]
    if case.batch > 1:
        said.append(f"{case.batch} rows")
    if case.method != "identity":
        said.append(f"rtc `{case.method}`")
    if case.weights:
        said.append(f"{case.weights} weights")
    said += {
        "usual": [],
        "xla": ["`fused_kernels: false`"],
        "loop": ["any number of steps"],
        "plain": ["no rearrangement"],
    }[case.switches]
    return ", ".join(said)


if __name__ == "__main__":
    main()
