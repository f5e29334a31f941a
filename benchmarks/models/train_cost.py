"""What training costs: CPU time of a step and of its samples, and memory by method.

    python benchmarks/models/train_cost.py [--steps N] [--write docs/benchmarks.md]
    export XLA_FLAGS=--xla_backend_optimization_level=0
    python benchmarks/models/train_cost.py --memory [--write docs/benchmarks.md]

Loader and step are measured one after the other, each in CPU seconds of this process (its threads
included), which other programs on the machine change little.

Memory of pi0.5 at its real size is counted from shapes, and that of a step is what XLA plans when
it compiles the update; nothing of that size is computed. The flag leaves out what LLVM does with
each loop afterwards, which takes most of the time and changes no plan.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from results_page import machine, replace_section

from openpi_flash_models.demo.tokenizer import tokenizer_model
from openpi_flash_models.model.shape import PALIGEMMA_VOCABULARY
from openpi_flash_training.dataset.feature import Feature
from openpi_flash_training.dataset.writer import DatasetWriter
from openpi_flash_training.train.assemble import assemble
from openpi_flash_training.train.loader import Loader, LoaderSettings
from openpi_flash_training.train.lora import LoraSettings
from openpi_flash_training.train.mesh import make_mesh, put_batch
from openpi_flash_training.train.parameter_table import memory
from openpi_flash_training.train.plan import Plan, as_batch, make_plan
from openpi_flash_training.train.settings import TrainSettings
from openpi_flash_training.train.settings_file import parse_settings

SIDE, EPISODES, LENGTH, BATCH = 112, 8, 50, 16


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="of each measurement")
    parser.add_argument(
        "--memory",
        action="store_true",
        help="compile pi0.5's update by method and tell its memory instead; minutes, and 6 GB",
    )
    parser.add_argument("--write", type=Path, help="page to write the table to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        rows = memory_table(root) if options.memory else cost_table(root, options.steps)
        text = "\n".join(rows)
    print(text)
    if options.write is not None:
        section = "training-memory" if options.memory else "training"
        replace_section(options.write, section, text)


def cost_table(root: Path, steps: int) -> Iterator[str]:
    """CPU time of loader and step."""
    yield f"{machine()}, jax {jax.__version__}, {jax.default_backend()}."
    yield ""
    yield f"CPU time a sample, size `small`, batch {BATCH}, 2 cameras of {SIDE} x {SIDE}:"
    yield ""
    yield "| | CPU ms a sample | ratio to the step |"
    yield "|---|---|---|"
    costs: dict[str, float] = {}
    for kind in ("video", "image"):
        dataset = root / kind
        write_dataset(dataset, kind)
        plan = plan_of(settings_of(root, dataset, {"size": "small"}))
        if not costs:
            costs["step, augmentation included"] = step_cost(plan, steps)
        name = "MP4" if kind == "video" else "PNG"
        costs[f"loader, {name}"] = loader_cost(plan, steps)
    step = costs["step, augmentation included"]
    for name, cost in costs.items():
        yield f"| {name} | {1000 * cost:.2f} | {cost / step:.2f} |"


def memory_table(root: Path) -> Iterator[str]:
    """Memory of pi0.5 at its real size, by method."""
    write_dataset(root / "image", "image")
    yield f"jax {jax.__version__}, compiled for {jax.default_backend()}; planned, not measured."
    yield ""
    yield "| | parameters GB | optimiser GB | running mean GB | a step besides GB | sum GB |"
    yield "|---|---|---|---|---|---|"
    for name, changed in methods(settings_of(root, root / "image", {"size": "full"})):
        plan = at_real_size(plan_of(changed))
        held = memory(plan.state, plan.shardings, plan.working_bytes())
        parts = (held.parameters, held.optimizer, held.mean, held.working or 0, held.total)
        yield f"| {name} | " + " | ".join(f"{part / 1e9:.1f}" for part in parts) + " |"


def methods(settings: TrainSettings) -> Iterator[tuple[str, TrainSettings]]:
    """Full and LoRA, with and without remat."""
    settings = replace(
        settings,
        model=replace(settings.model, dtype="bfloat16"),
        run=replace(settings.run, batch_size=1),
    )
    adapted = replace(
        settings,
        model=replace(settings.model, lora=LoraSettings()),
        optimizer=replace(settings.optimizer, ema_decay=None),
    )
    for name, base in (("full", settings), ("LoRA", adapted)):
        yield name, base
        yield f"{name}, remat", replace(base, loss=replace(base.loss, remat=True))


def loader_cost(plan: Plan, steps: int) -> float:
    """CPU seconds of a sample that is read, decoded, scaled and tokenised."""
    loader = Loader(plan.assembled.samples, LoaderSettings(BATCH, seed=0, threads=1, prefetch=1))
    try:
        return cpu_seconds(lambda: next(loader), steps) / BATCH
    finally:
        loader.close()


def step_cost(plan: Plan, steps: int) -> float:
    """CPU seconds of a sample in an update."""
    loader = Loader(plan.assembled.samples, LoaderSettings(BATCH, seed=0, threads=1))
    batch = put_batch(as_batch(next(loader)), plan.mesh)
    loader.close()
    state, update = plan.first_state(), plan.step()

    def step() -> None:
        nonlocal state
        state, metrics = update(state, batch)
        metrics["loss"].block_until_ready()

    return cpu_seconds(step, steps) / BATCH


def cpu_seconds(do: Callable[[], object], times: int) -> float:
    """Of one call, the first two left out."""
    for _ in range(2):
        do()
    started = time.process_time()
    for _ in range(times):
        do()
    return (time.process_time() - started) / times


def plan_of(settings: TrainSettings) -> Plan:
    """On one device."""
    return make_plan(assemble(settings), make_mesh(1, jax.devices()[:1]))


def at_real_size(plan: Plan) -> Plan:
    """With PaliGemma's vocabulary in the place of the small tokenizer's."""
    assembled = plan.assembled
    shape = replace(assembled.shape, vocabulary=PALIGEMMA_VOCABULARY)
    loss = replace(assembled.loss, shape=shape)
    return make_plan(replace(assembled, shape=shape, loss=loss), plan.mesh)


def settings_of(root: Path, dataset: Path, model: dict[str, str]) -> TrainSettings:
    """Of a run over the dataset."""
    words = root / "words.model"
    words.write_bytes(tokenizer_model())
    tree = {
        "model": {"config": "pi05_sim_arm", "tokenizer": str(words), **model},
        "data": {"dataset": str(dataset)},
        "run": {"output": str(root / "run"), "batch_size": BATCH},
    }
    return parse_settings(tree, "benchmark")


def write_dataset(folder: Path, kind: str) -> None:
    """Episodes of the simulated arm with pictures that move, and statistics."""
    cameras = ("observation.images.scene", "observation.images.wrist")
    features = {camera: Feature(kind, (SIDE, SIDE, 3)) for camera in cameras}
    features |= {name: Feature("float32", (7,)) for name in ("observation.state", "action")}
    random = np.random.default_rng(0)
    still = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    images = np.stack([np.roll(still, 2 * step, axis=1) for step in range(LENGTH)])
    with DatasetWriter(folder, fps=25, features=features) as writer:
        for _ in range(EPISODES):
            path = np.cumsum(random.normal(0, 0.05, (LENGTH, 7)), axis=0).astype(np.float32)
            numbers = {"observation.state": path, "action": path}
            writer.add_episode("touch the red cube", numbers, dict.fromkeys(cameras, images))
    box = {"mean": [0.0] * 7, "std": [1.0] * 7, "q01": [-1.0] * 7, "q99": [1.0] * 7}
    file = folder / "assets/sim_arm/norm_stats.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"norm_stats": {"state": box, "actions": box}}))


if __name__ == "__main__":
    main()
