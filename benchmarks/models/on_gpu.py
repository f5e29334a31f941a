"""All that only a GPU can say about the models, in ten minutes on one machine without a network.

Weights are random numbers of real size, made here. Parts run in the order of their worth until the
time is up; a part that fails says so and the next one runs. Every part adds to one report:

    right      the GPU's programs against the same model on the CPU, at small sizes
    times      host images (uint8) in, float32 actions on the host: p50 and p99, beside the
               estimate of docs/models.md for this GPU
    planner    time per token, and what it costs the actions beside it
    profile    a trace of the slowest program

`--size tiny` runs the same script anywhere, in a minute, to see that it works.

usage: benchmarks/on_gpu [--minutes 9] [--size real|tiny] [--report on_gpu.md]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# both frameworks use the device, one after the other
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import ml_dtypes
import numpy as np

from openpi_flash_models.actions.rtc import Guidance, RtcOptions, no_guidance
from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.jax_models.arch import kernels_of_device
from openpi_flash_models.jax_models.models import JaxActionModel, JaxTokenModel
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.rearrangements import ALL_ON
from openpi_flash_models.model.shape import ModelShape, expected_shapes, named_shape
from openpi_flash_models.policy.model_protocols import DEFAULT_STEPS
from openpi_flash_models.text.tokenizer import EOS_ID

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from gpu_table import read_estimates
from results_page import machine

HORIZON, SLOTS, TOKENS, BLOCK = 50, 96, 20, 4
GOALS = {"pi0.5, 3 cameras": 15.0, "pi0.5, 3 cameras, PyTorch": 15.0, "planner, a token": 1.8}
"""Milliseconds on an H200."""
ESTIMATED = {
    "pi0.5, 3 cameras": "pi0.5 96, action, 3 cameras",
    "pi0.5, 2 cameras": "pi0.5 96, action, 2 cameras",
    "pi0.5, 1 cameras": "pi0.5 96, action, 1 cameras",
    "8 rows": "pi0.5 96, action, 3 cameras, 8 rows",
    "XLA's kernels": "pi0.5 96, action, 3 cameras, `fused_kernels: false`",
    "rtc vjp": "pi0.5 96, action, 3 cameras, rtc `vjp`",
    "planner, a token": "pi0.5 96, planner, 19 tokens, 3 cameras, each turn",
}
"""The program in the table of estimates by what is measured; the table may lack some."""
MODELS_PAGE = Path(__file__).parents[2] / "docs" / "models.md"
ROUNDING = 0.03
"""Of the largest action: what bfloat16 may differ by."""
TINY = ModelShape(
    kind="pi05",
    patch=56,
    vision_width=32,
    vision_depth=1,
    vision_heads=2,
    vision_mlp=32,
    width=64,
    depth=2,
    mlp=64,
    heads=2,
    key_heads=1,
    head_width=32,
    vocabulary=512,
    expert_width=64,
    expert_mlp=64,
    action_dim=32,
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One program's calls.

    Attributes:
        name: of the program.
        seconds: of each call.
        first: seconds of the first call, which compiles.
        share: calls are divided by it, as tokens of a text or rows of a batch.
    """

    name: str
    seconds: list[float]
    first: float
    share: int = 1

    def milliseconds(self, mark: float) -> float:
        """A percentile."""
        return float(np.percentile(self.seconds, mark)) * 1e3 / self.share


@dataclasses.dataclass
class Day:
    """The time that is left, and the report.

    Attributes:
        ends: by the monotonic clock.
        path: of the report, rewritten after every part.
        calls: the most calls of a program.
        estimates: milliseconds by program, of the table in docs/models.md.
        lines: of the report.
        rows: measured so far.
    """

    ends: float
    path: Path
    calls: int
    estimates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    lines: list[str] = dataclasses.field(default_factory=list)
    rows: list[Row] = dataclasses.field(default_factory=list)

    def part(self, name: str, need: float, run: Callable[[Day], None]) -> None:
        """Run a part if there is time for it.

        Args:
            name: for the report.
            need: seconds that it takes on a GPU, most of them for compiling.
            run: adds lines and rows.
        """
        left = self.ends - time.monotonic()
        self.lines += ["", f"## {name}", ""]
        if left < need:
            self.lines.append(f"left out: {left:.0f} s were left, it takes about {need:.0f}")
        else:
            started = time.monotonic()
            try:
                run(self)
            except Exception:
                self.lines += ["failed:", "", "```", traceback.format_exc().strip(), "```"]
            self.lines += ["", f"{time.monotonic() - started:.0f} s"]
        self.path.write_text("\n".join(self.lines) + "\n")
        print("\n".join(self.lines[-12:]), flush=True)

    def measure(self, name: str, call: Callable[[], Any], share: int = 1) -> Row:
        """Call again and again, for at most 15 s, and note the times."""
        started = time.perf_counter()
        call()
        first = time.perf_counter() - started
        for _ in range(min(10, self.calls)):
            call()
        seconds: list[float] = []
        until = time.monotonic() + 15
        while len(seconds) < self.calls and (time.monotonic() < until or len(seconds) < 5):
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
        row = Row(name, seconds, first, share)
        self.rows.append(row)
        self.report(row, f"n = {len(seconds)}, first call {first:.1f} s")
        return row

    def report(self, row: Row, how: str) -> None:
        """A line of the report: measured, goal and estimate."""
        goal = f", goal {GOALS[row.name]}" if row.name in GOALS else ""
        estimate = self.estimates.get(ESTIMATED.get(row.name, ""))
        beside = ""
        if estimate is not None:
            factor = row.milliseconds(50) / estimate
            beside = f", estimate {estimate:g}: {factor:.2f} times as long"
        self.lines.append(
            f"- {row.name}: p50 {row.milliseconds(50):.2f} ms, p99 {row.milliseconds(99):.2f}"
            f"{goal}{beside}; {how}"
        )


@dataclasses.dataclass(frozen=True)
class Models:
    """What is measured: a shape and its random weights.

    Attributes:
        shape: of pi0.5.
        tree: the checkpoint's nested tree.
        slots: of prompts.
    """

    shape: ModelShape
    tree: Mapping[str, Any]
    slots: int

    def jax(self, **switches: bool) -> JaxActionModel:
        """The model on JAX's device."""
        return JaxActionModel(self.tree, self.shape, ALL_ON.switched(**switches))

    def inputs(self, cameras: int, batch: int = 1) -> ModelInputs:
        """Pictures and prompts."""
        generator = np.random.default_rng(1)
        size = self.shape.image_size
        return ModelInputs(
            images=generator.integers(0, 256, (batch, cameras, size, size, 3)).astype(np.uint8),
            image_mask=np.ones((batch, cameras), bool),
            tokens=generator.integers(3, 200, (batch, self.slots)).astype(np.int32),
            token_mask=np.arange(self.slots)[None].repeat(batch, 0) < self.slots - 4,
            state=generator.normal(size=(batch, self.shape.action_dim)).astype(np.float32),
        )

    def noise(self, batch: int = 1) -> np.ndarray:
        """Standard normal."""
        size = (batch, HORIZON, self.shape.action_dim)
        return np.random.default_rng(2).normal(size=size).astype(np.float32)

    def call(
        self, model: Any, cameras: int, batch: int = 1, guidance: Guidance | None = None
    ) -> Callable[[], np.ndarray]:
        """One call as a server makes it: host arrays in and out."""
        inputs, noise = self.inputs(cameras, batch), self.noise(batch)
        given = guidance or no_guidance(*noise.shape)
        return lambda: np.asarray(model.sample(inputs, noise, DEFAULT_STEPS, given))


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--size", choices=("real", "tiny"), default="real")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--report", type=Path, default=Path("on_gpu.md"))
    arguments = parser.parse_args()
    run(arguments.report, arguments.size, arguments.minutes, arguments.calls)


def run(report: Path, size: str, minutes: float, calls: int, page: str | None = None) -> Day:
    """All parts; returns what was measured. ``page`` has the estimates, else docs/models.md."""
    page = MODELS_PAGE.read_text() if page is None else page
    device = jax.devices()[0]
    day = Day(
        time.monotonic() + 60 * minutes, report, calls, read_estimates(page, device.device_kind)
    )
    day.lines += [
        f"# The models on {device.device_kind}",
        "",
        f"{machine()}, jax {jax.__version__}, fused kernels: {kernels_of_device()}; pi0.5 of "
        f"{size} size with random weights, {SLOTS} prompt slots, {HORIZON} actions, "
        f"{DEFAULT_STEPS} steps.",
        "",
        f"Estimates are those of docs/models.md for this GPU: {len(day.estimates) or 'it has none'}"
        ".",
    ]
    day.part("right", 60, check)
    is_tiny = size == "tiny"
    shape = TINY if is_tiny else named_shape("pi05")
    models = Models(shape, random_tree(shape), 8 if is_tiny else SLOTS)
    usual = None
    unit = 1.0 if is_tiny else 60.0

    def times(day: Day) -> None:
        nonlocal usual
        usual = models.jax()
        day.measure("pi0.5, 3 cameras", models.call(usual, 3))
        memory(day)

    day.part("pi0.5, the usual call", 2 * unit, times)
    day.part("planner", 2 * unit, lambda day: planner(day, models, usual))
    day.part("PyTorch", 3 * unit, lambda day: pytorch(day, models))
    day.part("8 robots at once", 1.5 * unit, lambda day: eight(day, models, usual))
    day.part("XLA's kernels alone", 1.5 * unit, lambda day: without_kernels(day, models))
    day.part("other cameras", 2 * unit, lambda day: other_cameras(day, models, usual))
    day.part("any number of steps, RTC", 2 * unit, lambda day: others(day, models, usual))
    day.part("profile", 0.2 * unit, lambda day: profile(day, models, usual))
    return day


def check(day: Day) -> None:
    """The device's program against the CPU's, at a small size."""
    models = Models(TINY, random_tree(TINY), 8)
    host = jax.devices("cpu")[0]
    with jax.default_device(host):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), models.tree)
        plain = JaxActionModel(wide, TINY, ALL_ON.switched(fused_kernels=False))
        expected = models.call(plain, 2)()
    guidance = Guidance(
        models.noise(), np.ones_like(models.noise()), np.arange(HORIZON)[None] < 5, is_prefix=True
    )
    arms = {
        "fused kernels": models.call(models.jax(), 2),
        "XLA's kernels": models.call(models.jax(fused_kernels=False), 2),
        "any number of steps": models.call(models.jax(static_steps=False), 2),
    }
    for name, call in arms.items():
        error = float(np.abs(call() - expected).max() / np.abs(expected).max())
        verdict = "right" if error < ROUNDING else "WRONG"
        day.lines.append(f"- {name}: {verdict}, {100 * error:.2f} % of the largest action")
    known = models.call(models.jax(), 2, guidance=guidance)()
    same = np.abs(known[:, :5] - models.noise()[:, :5]).max()
    day.lines.append(f"- known actions are kept: {'right' if same < 1e-6 else 'WRONG'}")


def planner(day: Day, models: Models, usual: JaxActionModel | None) -> None:
    """A text of 20 tokens, and the actions beside it."""
    allowed = np.arange(models.shape.vocabulary) < 100_000
    allowed[EOS_ID] = False  # so that a text never ends early
    speaker = JaxTokenModel(
        models.tree, models.shape, ALL_ON, max_tokens=TOKENS, allowed=allowed, block=BLOCK
    )
    inputs = models.inputs(3)
    spans: list[float] = []

    class Turn:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None:
            self.started = time.perf_counter()

        def __exit__(self, *_: object) -> None:
            if self.name == "decode":
                spans.append(time.perf_counter() - self.started)

    started = time.perf_counter()
    speaker.generate(inputs)
    first = time.perf_counter() - started
    spans.clear()
    for _ in range(min(50, day.calls)):
        speaker.generate(inputs, Turn)
    # the last block of a text is shorter
    whole = [
        span for index, span in enumerate(spans) if index % (TOKENS // BLOCK) < TOKENS // BLOCK - 1
    ]
    row = Row("planner, a token", whole, first, BLOCK)
    day.rows.append(row)
    day.report(row, f"n = {len(whole)} blocks of {BLOCK}")
    day.measure("planner, a text", lambda: speaker.generate(inputs))
    if usual is None:
        return
    done = threading.Event()

    def speak() -> None:
        while not done.is_set():
            speaker.generate(inputs)

    beside = threading.Thread(target=speak)
    beside.start()
    try:
        day.measure("pi0.5 beside a planner without turns", models.call(usual, 3))
    finally:
        done.set()
        beside.join()


def pytorch(day: Day, models: Models) -> None:
    """The same call in PyTorch, one CUDA graph."""
    try:
        import torch

        from openpi_flash_models.torch_models.models import TorchActionModel
    except ImportError:
        day.lines.append("left out: torch is not installed")
        return
    if jax.default_backend() != "cpu" and not torch.cuda.is_available():
        day.lines.append("left out: this torch has no CUDA")
        return
    model = TorchActionModel(models.tree, models.shape)
    day.measure("pi0.5, 3 cameras, PyTorch", models.call(model, 3))


def eight(day: Day, models: Models, usual: JaxActionModel | None) -> None:
    """Eight observations in one call."""
    row = day.measure("8 rows", models.call(usual, 3, batch=8))
    rate = 8e3 / row.milliseconds(50)
    day.lines.append(f"- 8 robots: {rate:.0f} observations/s, goal 80")


def without_kernels(day: Day, models: Models) -> None:
    """The usual call without the fused kernels."""
    day.measure("XLA's kernels", models.call(models.jax(fused_kernels=False), 3))


def other_cameras(day: Day, models: Models, usual: JaxActionModel | None) -> None:
    """Robots with fewer than three."""
    for cameras in (2, 1):
        day.measure(f"pi0.5, {cameras} cameras", models.call(usual, cameras))


def others(day: Day, models: Models, usual: JaxActionModel | None) -> None:
    """Programs besides the usual one."""
    noise = models.noise()
    inputs, none = models.inputs(3), no_guidance(*noise.shape)
    assert usual is not None, "the usual call failed"
    day.measure("9 steps, as a loop", lambda: usual.sample(inputs, noise, 9, none))
    full = JaxActionModel(models.tree, models.shape, ALL_ON, RtcOptions(method="vjp"))
    day.measure("rtc vjp", models.call(full, 3))


def profile(day: Day, models: Models, usual: JaxActionModel | None) -> None:
    """A trace of the usual call, for https://ui.perfetto.dev."""
    folder = day.path.with_suffix(".trace")
    call = models.call(usual, 3)
    with jax.profiler.trace(str(folder)):
        for _ in range(3):
            call()
    day.lines.append(f"the trace is in {folder}")


def memory(day: Day) -> None:
    """The most that JAX has held on the device."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        day.lines.append(f"- memory: {stats['peak_bytes_in_use'] / 1e9:.2f} GB at most")


def random_tree(shape: ModelShape) -> dict[str, Any]:
    """Weights of a model that nobody trained, in bfloat16; made in seconds at any size."""
    pool = (0.02 * np.random.default_rng(0).standard_normal(1 << 22)).astype(ml_dtypes.bfloat16)
    leaves = {
        tuple(name.split("/")): np.resize(pool, size)
        for name, size in expected_shapes(shape).items()
    }
    tree: dict[str, Any] = nest(leaves)["params"]
    return tree


if __name__ == "__main__":
    main()
