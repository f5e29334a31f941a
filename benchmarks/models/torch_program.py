"""Counts what the PyTorch models launch on a GPU that is not there, at real size.

The action call runs once with tensors that have shapes and no data. Each kind of layer is compiled
as the server compiles it (`inductor_for_gpu.py`), what lies between layers is counted operation by
operation, and times are estimated as those of the JAX programs are (`gpu_estimate.py`). On the
GPU one CUDA graph launches all of it.

Needs PyTorch with Triton (`scripts/test torch` installs it), and no GPU.

usage: python benchmarks/models/torch_program.py [--target h200]... [--layers N] [--write PAGE]
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from gpu_estimate import Totals, floor_seconds, kernel_seconds
from gpu_hlo import Kernel
from gpu_targets import LAUNCH_S, TARGETS, Target
from inductor_for_gpu import EagerKernels, launches
from results_page import replace_section

from openpi_flash_models.model.shape import ModelKind, ModelShape, named_shape
from openpi_flash_models.torch_models.flow import FlowModel, LayerFunctions, Observation
from openpi_flash_models.torch_models.from_tree import empty_flow_model

HORIZON, STEPS = 50, 10


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        kind: pi0 or pi05.
        cameras: images of a row.
        slots: prompt tokens.
        batch: rows.
        layers: of every tower; None: all.
    """

    kind: ModelKind = "pi05"
    cameras: int = 3
    slots: int = 96
    batch: int = 1
    layers: int | None = None

    @property
    def shape(self) -> ModelShape:
        """Of the model."""
        whole = named_shape(self.kind)
        if self.layers is None:
            return whole
        return dataclasses.replace(whole, depth=self.layers, vision_depth=self.layers)

    @property
    def title(self) -> str:
        """In words, as in the table of the JAX programs."""
        kind = {"pi05": "pi0.5", "pi0": "pi0"}[self.kind]
        rows = f", {self.batch} rows" if self.batch > 1 else ""
        return f"{kind} {self.slots}, action, {self.cameras} cameras{rows}"


CASES = (
    Case(),
    Case(cameras=2),
    Case(cameras=1),
    Case(slots=200),
    Case(batch=8),
    Case("pi0", slots=48),
)


@dataclass(frozen=True)
class Program:
    """What one call launches.

    Attributes:
        case: which call.
        target: on which GPU.
        prefix: kernels before the steps.
        step: kernels of one denoising step.
        weights: bytes of all parameters.
    """

    case: Case
    target: Target
    prefix: tuple[Kernel, ...]
    step: tuple[Kernel, ...]
    weights: int

    def totals(self, kernels: tuple[Kernel, ...]) -> Totals:
        """Of some of its kernels."""
        made = Totals()
        for kernel in kernels:
            seconds = kernel_seconds(kernel, self.target)
            made += Totals(1, kernel.bytes, kernel.operations, seconds)
        return made


@dataclass
class _Compiled:
    """A kind of layer: compiled for each new shape of its arguments, never run."""

    plain: Callable[..., Any]
    eager: EagerKernels
    target: Target
    known: dict[Any, tuple[Kernel, ...]] = field(default_factory=dict)

    def __call__(self, *given: Any) -> Any:
        before = len(self.eager.kernels)
        key = tuple(map(_shape_of, pytree.tree_leaves(given)))
        if key not in self.known:
            self.known[key] = launches(self.plain, given, self.target)
        made = self.plain(*given)
        self.eager.kernels[before:] = self.known[key]
        return made


def trace(case: Case, target: Target) -> Program:
    """What a call launches on a GPU."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model = empty_flow_model(case.shape, dtype=torch.bfloat16, device="cpu")
        schedule = model.schedule(STEPS)
        observation, noise = _inputs(case, model)
        eager = EagerKernels()
        model.functions = LayerFunctions(
            **{
                part.name: _Compiled(getattr(model.functions, part.name), eager, target)
                for part in dataclasses.fields(LayerFunctions)
            }
        )
        with eager:
            prefix = model.run_prefix(observation, HORIZON)
            count = len(eager.kernels)
            velocity = model.velocity(prefix, noise, schedule.steps[0])
            torch.add(noise, velocity, alpha=schedule.step_size)
        weights = sum(p.numel() * p.dtype.itemsize for p in model.parameters())
    kernels = tuple(eager.kernels)
    return Program(case, target, kernels[:count], kernels[count:], weights)


def _inputs(case: Case, model: FlowModel) -> tuple[Observation, Tensor]:
    side = model.shape.image_size
    rows, cameras = case.batch, case.cameras
    observation = Observation(
        images=torch.zeros(rows, cameras, side, side, 3, dtype=torch.uint8),
        image_mask=torch.ones(rows, cameras, dtype=torch.bool),
        tokens=torch.zeros(rows, case.slots, dtype=torch.int64),
        token_mask=torch.ones(rows, case.slots, dtype=torch.bool),
        state=torch.zeros(rows, model.shape.action_dim),
    )
    return observation, torch.zeros(rows, HORIZON, model.shape.action_dim)


def _shape_of(each: Any) -> Any:
    if isinstance(each, torch.nn.Module):
        return type(each).__name__
    return (tuple(each.shape), each.dtype) if isinstance(each, Tensor) else each


def main() -> None:
    """Count, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", choices=TARGETS, help="default: all")
    parser.add_argument("--layers", type=int, help="of every tower; all by default")
    parser.add_argument("--write", type=Path, help="page with markers for the table")
    arguments = parser.parse_args()
    keys = arguments.target or list(TARGETS)
    programs = [
        trace(dataclasses.replace(case, layers=arguments.layers), TARGETS[key])
        # every case on the first GPU, on the others the usual call
        for key in keys
        for case in (CASES if key == keys[0] else CASES[:1])
    ]
    text = describe(programs)
    print(text)
    if arguments.write:
        replace_section(arguments.write, "torch-program", text)


def describe(programs: list[Program]) -> str:
    """The table, in Markdown."""
    lines = [
        f"torch {torch.__version__}, bfloat16, {STEPS} steps of {HORIZON} actions, "
        f"{LAUNCH_S * 1e6:.0f} us a kernel; prompt slots after the model.",
        "",
        "| GPU | program | kernels: all (prefix, each step) | of a step: generated, products, "
        "attention, between layers | GB | TFLOP | ms estimated (prefix, each step) | floor ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for program in programs:
        prefix, step = program.totals(program.prefix), program.totals(program.step)
        whole = prefix + step.times(STEPS)
        floor = floor_seconds(program.weights, whole.operations, program.target)
        lines.append(
            f"| {program.target.name.removeprefix('NVIDIA ')} | {program.case.title} "
            f"| {whole.kernels:,} ({prefix.kernels}, {step.kernels}) "
            f"| {', '.join(map(str, _kinds(program.step)))} "
            f"| {whole.bytes / 1e9:.1f} | {whole.operations / 1e12:.2f} "
            f"| {whole.seconds * 1e3:.1f} ({prefix.seconds * 1e3:.1f}, {step.seconds * 1e3:.2f}) "
            f"| {floor * 1e3:.1f} |"
        )
    return "\n".join(lines)


def _kinds(kernels: tuple[Kernel, ...]) -> tuple[int, int, int, int]:
    kinds = [kernel.kind for kernel in kernels]
    generated, attention, between = map(kinds.count, ("triton", "attention", "eager"))
    return generated, len(kinds) - generated - attention - between, attention, between


if __name__ == "__main__":
    main()
