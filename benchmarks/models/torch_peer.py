"""Our pi0 in PyTorch against transformers' pi0: same weights, observation and noise, one run.

Both get a prompt of 48 slots with 20 tokens and three cameras, one of them masked; ours drops what
is masked, as the policy does, and both give the same actions. Calls alternate, so that a noisy
moment hits both alike. Needs transformers, which nothing else here does:

usage: uv run --group torch --with transformers==5.23.0 benchmarks/models/torch_peer.py \
           [--calls N] [--threads N] [--write docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

from openpi_flash_models.checkpoints.leaves import nest
from openpi_flash_models.checkpoints.safetensors import write_safetensors
from openpi_flash_models.model_shape import ModelShape, expected_shapes
from openpi_flash_models.torch_models.flow import Observation
from openpi_flash_models.torch_models.from_tree import build_flow_model
from openpi_flash_models.torch_models.sampler import Sampler

sys.path.insert(0, str(Path(__file__).parents[1]))
from results_page import machine, replace_section

HORIZON, STEPS, SLOTS, WORDS = 50, 10, 48, 20
PRESENT = np.array([True, True, False])
AGREEMENT = 1e-4

SIZES = {
    # so small that starting an operation costs more than doing it
    "dispatch-bound": ModelShape(
        kind="pi0",
        patch=56,
        vision_width=32,
        vision_depth=2,
        vision_heads=2,
        vision_mlp=64,
        width=32,
        depth=18,
        mlp=64,
        heads=8,
        key_heads=1,
        head_width=8,
        vocabulary=1024,
        expert_width=32,
        expert_mlp=64,
        action_dim=32,
    ),
    "compute-bound": ModelShape(
        kind="pi0",
        patch=14,
        vision_width=288,
        vision_depth=6,
        vision_heads=4,
        vision_mlp=1152,
        width=512,
        depth=6,
        mlp=4096,
        heads=8,
        key_heads=1,
        head_width=64,
        vocabulary=1024,
        expert_width=256,
        expert_mlp=1024,
        action_dim=32,
    ),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """What both models get.

    Attributes:
        shape: of the model.
        leaves: its weights.
        images: [1, 3, 224, 224, 3] float32 in [-1, 1].
        words: [WORDS] token ids.
        state: [1, A].
        noise: [1, HORIZON, A].
    """

    shape: ModelShape
    leaves: dict[tuple[str, ...], np.ndarray]
    images: np.ndarray
    words: np.ndarray
    state: np.ndarray
    noise: np.ndarray


@dataclasses.dataclass(frozen=True)
class Row:
    """One size: seconds of every call of ours and of the peer's."""

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
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [compare(name, shape, arguments.calls) for name, shape in SIZES.items()]
    text = describe(rows, arguments.calls, arguments.threads)
    print(text)
    if arguments.write:
        replace_section(arguments.write, "models-torch", text)


def compare(name: str, shape: ModelShape, calls: int) -> Row:
    """Build both models of the same weights, and ask them in turn."""
    case = make_case(shape)
    ours, theirs = _ours(case), _theirs(case)
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


def make_case(shape: ModelShape) -> Case:
    """Random weights and one observation, the same in every run."""
    generator = np.random.default_rng(0)
    leaves = {
        tuple(path.split("/")): _weights(path, size, generator)
        for path, size in expected_shapes(shape).items()
    }
    return Case(
        shape=shape,
        leaves=leaves,
        images=generator.uniform(-1, 1, (1, 3, 224, 224, 3)).astype(np.float32),
        words=generator.integers(2, shape.vocabulary, WORDS),
        state=generator.standard_normal((1, shape.action_dim), dtype=np.float32),
        noise=generator.standard_normal((1, HORIZON, shape.action_dim), dtype=np.float32),
    )


def _weights(path: str, size: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    fan_in = size[-2] if len(size) > 1 else 1
    spread = 0.05 if path.endswith(("bias", "scale")) else fan_in**-0.5
    return (generator.standard_normal(size) * spread).astype(np.float32)


def _ours(case: Case) -> Callable[[], torch.Tensor]:
    sampler = Sampler(build_flow_model(nest(case.leaves)["params"], case.shape))
    observation = Observation(
        images=torch.from_numpy(case.images[:, PRESENT]),
        image_mask=torch.ones(1, int(PRESENT.sum()), dtype=torch.bool),
        tokens=torch.from_numpy(case.words[None]),
        token_mask=torch.ones(1, WORDS, dtype=torch.bool),
        state=torch.from_numpy(case.state),
    )
    start = torch.from_numpy(case.noise)
    return lambda: sampler.sample_actions(observation, start, STEPS)


def _theirs(case: Case) -> Callable[[], torch.Tensor]:
    model = _peer(case.shape, case.leaves)
    image_token = model.config.vlm_config.image_token_id
    cameras = int(PRESENT.sum()) * case.shape.image_tokens
    ids = np.zeros((1, cameras + SLOTS), np.int64)
    ids[:, :cameras] = image_token
    ids[:, cameras : cameras + WORDS] = case.words
    mask = np.arange(cameras + SLOTS) < cameras + WORDS
    arguments: dict[str, Any] = {
        "state": torch.from_numpy(case.state),
        "input_ids": torch.from_numpy(ids),
        "pixel_values": torch.from_numpy(case.images.transpose(0, 1, 4, 2, 3).copy()),
        "pixel_attention_mask": torch.from_numpy(PRESENT[None]),
        "attention_mask": torch.from_numpy(mask[None].astype(np.int64)),
        "num_steps": STEPS,
    }
    return lambda: model.sample_actions(noise=torch.from_numpy(case.noise), **arguments)


def _peer(shape: ModelShape, leaves: dict[tuple[str, ...], np.ndarray]) -> Any:
    heads = {
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "head_dim": shape.head_width,
        "vocab_size": shape.vocabulary,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": shape.vision_width,
        "intermediate_size": shape.vision_mlp,
        "num_hidden_layers": shape.vision_depth,
        "num_attention_heads": shape.vision_heads,
        "patch_size": shape.patch,
        "image_size": 224,
        "vision_use_head": False,
    }
    language = {"hidden_size": shape.width, "intermediate_size": shape.mlp, **heads}
    expert = {"hidden_size": shape.expert_width, "intermediate_size": shape.expert_mlp, **heads}
    config = transformers.PI0Config(
        vlm_config={
            "model_type": "paligemma",
            "text_config": {"model_type": "gemma", **language},
            "vision_config": vision,
            "projection_dim": shape.width,
            "image_token_id": shape.vocabulary,
        },
        dit_config={"model_type": "gemma", **expert},
        chunk_size=HORIZON,
        max_action_dim=shape.action_dim,
        max_state_dim=shape.action_dim,
    )
    model = transformers.PI0ForConditionalGeneration(config).eval()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "model.safetensors"
        write_safetensors(file, leaves)
        tensors = {_peer_name(name): tensor for name, tensor in load_file(file).items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    # the action expert's own embedding is never read
    left = [name for name in missing if "dit.embed_tokens" not in name]
    if left or unexpected:
        raise SystemExit(f"the peer's weights: missing {left}, unexpected {unexpected}")
    return model


def _peer_name(name: str) -> str:
    root = "paligemma_with_expert."
    for ours, theirs in (
        (f"{root}paligemma.lm_head.", "model.vlm.language_model.embed_tokens."),
        (f"{root}paligemma.model.vision_tower.vision_model.", "model.vlm.vision_tower."),
        (f"{root}paligemma.model.", "model.vlm."),
        (f"{root}gemma_expert.model.", "model.dit."),
        ("action_out_proj.", "action_out_proj."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return f"embed_action_time.{name}"


def describe(rows: list[Row], calls: int, threads: int) -> str:
    """The table, in Markdown."""
    lines = [
        f"{machine()}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"float32, {threads} thread(s), n = {calls} each, alternating; {HORIZON} actions, "
        f"{STEPS} steps.",
        "",
        "| pi0 | ours p50 / p99 ms | transformers p50 / p99 ms | ratio p50 | largest difference |",
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
