"""The exact rearrangements of the JAX models against the graph as one would write it first.

Same weights, observation and noise; both arms are one jit-compiled call and give the same actions.
Calls alternate, so that a noisy moment hits both alike. The planner's loop is compared with one
that is unrolled over the tokens, over a cache that grows, and always says them all.

usage: python benchmarks/models/jax_graph.py [--calls N] [--write docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from openpi_flash_models.actions.rtc import no_guidance
from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.jax_models import decode, gemma
from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.jax_models.flops import call_flops
from openpi_flash_models.jax_models.models import JaxActionModel, JaxTokenModel
from openpi_flash_models.jax_models.prefix import read_last
from openpi_flash_models.model.inputs import ModelInputs
from openpi_flash_models.model.packing import bucket_of, pack
from openpi_flash_models.model.rearrangements import ALL_OFF, ALL_ON, Rearrangements
from openpi_flash_models.model.shape import ModelKind, ModelShape, expected_shapes, named_shape

sys.path.insert(0, str(Path(__file__).parents[1]))
from results_page import machine, replace_section

HORIZON, STEPS, WORDS, SLOTS = 50, 10, 30, 200
MAX_TOKENS, EOS_AT = 20, 4
AGREEMENT = 1e-5
SHAPE = ModelShape(
    kind="pi05",
    patch=14,
    vision_width=192,
    vision_depth=4,
    vision_heads=4,
    vision_mlp=512,
    width=384,
    depth=6,
    mlp=1536,
    heads=8,
    key_heads=1,
    head_width=64,
    vocabulary=2048,
    expert_width=256,
    expert_mlp=1024,
    action_dim=32,
)
# so wide that a token costs what reading the weights costs, behind a short prefix
TALKER = dataclasses.replace(SHAPE, patch=56, width=512, mlp=4096, vocabulary=32768)


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison, in seconds; the first arm is ours."""

    name: str
    compile: tuple[float, float]
    calls: tuple[list[float], list[float]]

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return float(np.median(self.calls[0]) / np.median(self.calls[1]))


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    rows = [compare_actions("pi05", arguments.calls), compare_actions("pi0", arguments.calls)]
    rows.append(compare_planner(arguments.calls))
    text = describe(rows, arguments.calls)
    print(text)
    if arguments.write:
        replace_section(arguments.write, "models-jax", text)


def compare_actions(kind: ModelKind, calls: int) -> Row:
    """A call with two of three cameras and a prompt of 30 words, all switches on and all off."""
    shape = dataclasses.replace(SHAPE, kind=kind)
    tree, inputs = random_tree(shape), observation(3, 48 if kind == "pi0" else SLOTS)
    noise = np.random.default_rng(2).normal(size=(1, HORIZON, 32)).astype(np.float32)

    def arm(options: Rearrangements) -> Callable[[], np.ndarray]:
        model = JaxActionModel(tree, shape, options)

        def call() -> np.ndarray:
            packing = options.packing
            cut = pack(inputs, packing.token_buckets) if packing.drop_padding else inputs
            return model.sample(cut, noise, STEPS, no_guidance(1, HORIZON, 32))

        return call

    return alternate(f"{kind} call", arm(ALL_ON), arm(ALL_OFF), calls)


def compare_planner(calls: int) -> Row:
    """A subtask whose end mark is the fourth of twenty tokens; both arms say the same."""
    tree, inputs = random_tree(TALKER), observation(1, 32)
    model = JaxTokenModel(tree, TALKER, max_tokens=MAX_TOKENS)
    said = model.generate(inputs)[0]
    eos = jnp.int32(first_new(said, EOS_AT))
    head = decode.whole_head(model.weights)

    def ours() -> np.ndarray:
        made = decode.decode(model.arch, model.weights, head, inputs, eos, max_tokens=MAX_TOKENS)
        return np.asarray(made)

    def unrolled() -> np.ndarray:
        return np.asarray(say_unrolled(model.arch, model.weights, head, inputs, eos))

    jax.clear_caches()  # type: ignore[no-untyped-call]
    where = int(np.argmax(said == int(eos))) + 1
    return alternate(f"subtask, end mark at {where} of {MAX_TOKENS}", ours, unrolled, calls)


def first_new(said: np.ndarray, at: int) -> int:
    """The token closest to place ``at`` that was not said before."""
    new = [i for i in range(len(said)) if said[i] not in said[:i]]
    return int(said[min(new, key=lambda i: abs(i + 1 - at))])


@partial(jax.jit, static_argnames="arch")
def say_unrolled(
    arch: Arch, weights: Any, head: decode.Head, inputs: ModelInputs, eos: jax.Array
) -> jax.Array:
    """The loop written out: a forward per token, each over a cache one longer."""
    hidden, prefix = read_last(arch, weights, inputs)
    past, position = [prefix.past], prefix.length
    done, text = jnp.zeros(hidden.shape[0], bool), []
    for _ in range(MAX_TOKENS):
        token = jnp.argmax(decode.logits(head, hidden), axis=-1).astype(jnp.int32)
        token = jnp.where(done, 0, token)
        done |= token == eos
        text.append(token)
        embedded = gemma.embed_tokens(weights["embedding"], token[:, None])
        out, own = gemma.run_layers(
            arch, weights["language"], embedded, position[:, None], None, past=past
        )
        grown = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=-3), past[0].cache, own)
        valid = jnp.concatenate([past[0].valid, jnp.ones_like(done)[:, None]], axis=1)
        past, position, hidden = [gemma.Past(grown, valid)], position + 1, out[:, 0]
    return jnp.stack(text, axis=1)


def alternate(
    name: str, ours: Callable[[], np.ndarray], theirs: Callable[[], np.ndarray], calls: int
) -> Row:
    """Compile both, see that they agree, and call them in turn."""
    compiled, results = [], []
    for arm in (ours, theirs):
        started = time.perf_counter()
        results.append(arm())
        compiled.append(time.perf_counter() - started)
    difference = float(np.abs(results[0] - results[1]).max())
    if difference > AGREEMENT:
        raise SystemExit(f"{name}: the arms differ by {difference}, nothing to compare")
    seconds: tuple[list[float], list[float]] = ([], [])
    for call in range(calls):
        for which in (0, 1) if call % 2 else (1, 0):
            started = time.perf_counter()
            (ours, theirs)[which]()
            seconds[which].append(time.perf_counter() - started)
    return Row(name, (compiled[0], compiled[1]), seconds)


def random_tree(shape: ModelShape) -> dict[str, Any]:
    """Weights of a model that nobody trained."""
    generator = np.random.default_rng(0)
    leaves = {
        tuple(name.split("/")): (0.05 * generator.standard_normal(size)).astype(np.float32)
        for name, size in expected_shapes(shape).items()
    }
    tree: dict[str, Any] = nest(leaves)["params"]
    return tree


def observation(cameras: int, slots: int) -> ModelInputs:
    """Pictures and a prompt; the last of three cameras is masked."""
    generator = np.random.default_rng(1)
    return ModelInputs(
        images=generator.integers(0, 256, (1, cameras, 224, 224, 3)).astype(np.uint8),
        image_mask=np.arange(cameras)[None] < max(1, cameras - 1),
        tokens=generator.integers(3, 2000, (1, slots)).astype(np.int32),
        token_mask=np.arange(slots)[None] < WORDS,
        state=generator.normal(size=(1, 32)).astype(np.float32),
    )


def describe(rows: list[Row], calls: int) -> str:
    """The tables, in Markdown."""
    lines = [
        f"{machine()}, jax {jax.__version__}, CPU, float32, n = {calls} each, alternating; "
        f"two of three cameras, {WORDS} words, {HORIZON} actions, {STEPS} steps.",
        "",
        "| | ours p50 / p99 ms | plain p50 / p99 ms | ratio p50 | compile s, ours / plain |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        ours, plain = (
            "{:.0f} / {:.0f}".format(*(1000 * np.percentile(each, [50, 99]))) for each in row.calls
        )
        compiled = " / ".join(f"{seconds:.1f}" for seconds in row.compile)
        lines.append(f"| {row.name} | {ours} | {plain} | {row.ratio:.2f} | {compiled} |")
    lines += [
        "",
        "Floating point operations of a call at real size, counted in the program (TFLOP):",
        "",
        "| | plain: 3 cameras, all slots | ours: 2 cameras, 30 words | ratio |",
        "|---|---|---|---|",
    ]
    kinds: tuple[tuple[ModelKind, int], ...] = (("pi05", SLOTS), ("pi0", 48))
    for kind, slots in kinds:
        shape = named_shape(kind)
        plain_count = call_flops(shape, ALL_OFF, cameras=3, prompt_slots=slots).total
        length = bucket_of(WORDS, ALL_ON.packing.token_buckets, slots)
        our_count = call_flops(shape, ALL_ON, cameras=2, prompt_slots=length).total
        lines.append(
            f"| {kind} | {plain_count / 1e12:.2f} | {our_count / 1e12:.2f} | "
            f"{our_count / plain_count:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
