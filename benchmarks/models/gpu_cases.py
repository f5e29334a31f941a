"""The programs that a server runs, of the released models' sizes, with abstract arguments."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from openpi_flash_models.actions.rtc import Guidance, Method
from openpi_flash_models.jax_models import decode, flow
from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.jax_models.quantized import quantize
from openpi_flash_models.jax_models.weights import abstract_weights
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.precision import Quantization
from openpi_flash_models.model.rearrangements import ALL_OFF, ALL_ON
from openpi_flash_models.model.shape import ModelKind, named_shape
from openpi_flash_models.policy.model_protocols import DEFAULT_STEPS

HORIZON, SUBTASK_TOKENS, FAST_TOKENS = 50, 20, 256
SPOKEN = 100_000
"""Tokens of the vocabulary that a planner may say: the pieces of printable ASCII."""


@dataclass(frozen=True)
class Case:
    """One program.

    Attributes:
        part: ``action``; ``read`` or ``speak``, the planner's prefix and its loop; ``fast``,
            pi0-FAST as a whole.
        kind: of the model.
        cameras: images of a row.
        slots: prompt tokens.
        batch: rows.
        method: how a previous chunk guides the new one; of an action.
        switches: ``usual``; ``xla`` without the fused kernels; ``loop`` with any number of
            steps; ``plain`` without any rearrangement.
        weights: eight-bit type of the weights; None: bfloat16.
        layers: of every tower; None: all.
    """

    part: str = "action"
    kind: ModelKind = "pi05"
    cameras: int = 3
    slots: int = 96
    batch: int = 1
    method: Method = "identity"
    switches: str = "usual"
    weights: Quantization | None = None
    layers: int | None = None

    @property
    def name(self) -> str:
        """For tables and files."""
        parts = [self.part, self.kind, f"{self.cameras}cam", f"{self.slots}tok", f"b{self.batch}"]
        extra: list[str] = [self.method] if self.method != "identity" else []
        extra += [self.switches] if self.switches != "usual" else []
        extra += [self.weights] if self.weights else []
        extra += [f"{self.layers}layers"] if self.layers else []
        return "-".join(parts + extra)

    @property
    def unknown_loops(self) -> tuple[int, ...]:
        """How often loops run whose length the program does not know, by depth."""
        if self.part == "speak":
            return (SUBTASK_TOKENS - 1,)
        if self.part == "fast":
            return (FAST_TOKENS - 1,)
        # with the features made once, an outer loop runs over blocks of steps
        return (DEFAULT_STEPS, 1) if self.switches == "plain" else (1, DEFAULT_STEPS)


def weight_bytes(case: Case) -> int:
    """All weights of a case's model."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(_made(case)[1]))


def lower(case: Case, sharding: Any) -> tuple[Any, dict[str, str | bool]]:
    """The program, lowered for a device that need not exist, and XLA's options for it."""
    arch, weights = _made(case)
    batch, size = case.batch, arch.shape.image_size

    def place(tree: Any) -> Any:
        def placed(leaf: Any) -> Any:
            return _struct(leaf.shape, leaf.dtype, sharding)

        return jax.tree.map(placed, tree)

    inputs = ModelInputs(
        images=_struct((batch, case.cameras, size, size, 3), jnp.uint8),
        image_mask=_struct((batch, case.cameras), bool),
        tokens=_struct((batch, case.slots), jnp.int32),
        token_mask=_struct((batch, case.slots), bool),
        state=_struct((batch, arch.shape.action_dim), jnp.float32),
    )
    inputs, weights, scalar = place(inputs), place(weights), place(_struct((), jnp.int32))
    if case.part == "action":
        chunk = (batch, HORIZON, arch.shape.action_dim)
        whole = place(_struct(chunk, jnp.float32))
        frozen = place(_struct(chunk[:2], bool))
        known = Guidance(whole, whole, frozen, is_prefix=case.method == "prefix")
        schedule = None
        if case.switches in ("usual", "xla"):
            schedule = place(
                jax.eval_shape(lambda w: flow.make_schedule(arch, w, DEFAULT_STEPS), weights)
            )
        sample = flow.sample_actions if schedule is None else flow.sample_as_one_graph
        lowered = sample.lower(
            arch,
            weights,
            inputs,
            noise=place(_struct(chunk, jnp.float32)),
            num_steps=scalar if schedule is None else None,
            guidance=known,
            max_guidance=place(_struct((), jnp.float32)),
            method=case.method,
            schedule=schedule,
        )
        return lowered, {} if schedule is None else dict(flow.ONE_GRAPH)
    count = SPOKEN if case.part != "fast" else arch.shape.vocabulary
    width = arch.shape.width
    rows: Any = _struct((count, width), jnp.bfloat16)
    if case.weights:
        rows = jax.eval_shape(lambda rows: quantize(rows, case.weights, (-1,)), rows)
    head = place(decode.Head(_struct((count,), jnp.int32), rows))
    sizes: dict[str, Any] = {"max_tokens": SUBTASK_TOKENS}
    if case.part == "fast":
        sizes = {"max_tokens": FAST_TOKENS, "skipped_positions": 1}
        return decode.decode.lower(arch, weights, head, inputs, scalar, **sizes), {}

    def read(weights: Any, head: Any, inputs: Any, eos: Any) -> decode.Text:
        embedded = decode.embed(arch, weights, inputs)
        return decode.begin(arch, weights, head, embedded, eos=eos, **sizes)

    if case.part == "read":
        return jax.jit(read).lower(weights, head, inputs, scalar), {}
    text = place(jax.eval_shape(read, weights, head, inputs, scalar))
    return decode.go_on.lower(arch, weights, head, text, eos=scalar, tokens=scalar), {}


def _made(case: Case) -> tuple[Arch, Any]:
    shape = named_shape(case.kind)
    if case.layers:
        shape = dataclasses.replace(shape, depth=case.layers, vision_depth=case.layers)
    options = ALL_OFF if case.switches == "plain" else ALL_ON
    kernels: Any = "triton" if case.switches in ("usual", "loop") else None
    arch = Arch(shape, options.graph, kernels=kernels)
    weights = abstract_weights(shape, options.layout, "bfloat16", case.weights)
    if case.part in ("read", "speak"):
        weights = {k: v for k, v in weights.items() if k not in ("expert", "heads")}
    return arch, weights


def _struct(size: tuple[int, ...], dtype: Any, sharding: Any = None) -> Any:
    abstract: Any = jax.ShapeDtypeStruct
    return abstract(size, dtype, sharding=sharding)
