"""LeRobot's pi0 and pi0.5 of a case's sizes and weights.

LeRobot knows openpi's sizes alone, by name, so its configurations are changed on their way into
the models that it builds; what computes is its own code, in its own (eager) default.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch_case import HORIZON, STEPS, Case

from openpi_flash_models.model.shape import ModelKind, ModelShape

KINDS: tuple[ModelKind, ...] = ("pi0", "pi05")
_ROOT = "paligemma_with_expert"
_MODELS = ("PaliGemmaForConditionalGenerationWithPiGemma", "PiGemmaForCausalLM")
_NAMES = {"pi0": ("PI0Config", "PI0Pytorch"), "pi05": ("PI05Config", "PI05Pytorch")}


def sampler(case: Case) -> Callable[[], Tensor]:
    """Function that denoises the case's chunk."""
    model = model_of(case)
    cameras = torch.from_numpy(case.images.transpose(1, 0, 4, 2, 3).copy())
    words = np.zeros((1, case.slots), np.int64)
    words[:, : len(case.words)] = case.words
    arguments = [
        list(cameras),
        [torch.tensor([present]) for present in case.present],
        torch.from_numpy(words),
        torch.from_numpy(np.arange(case.slots)[None] < len(case.words)),
    ]
    if case.shape.kind == "pi0":
        arguments.append(torch.from_numpy(case.state))
    noise = torch.from_numpy(case.noise)
    return lambda: model.sample_actions(*arguments, noise=noise, num_steps=STEPS)


def model_of(case: Case) -> Any:
    """LeRobot's model with the case's weights."""
    kind, shape = case.shape.kind, case.shape
    package = f"lerobot.policies.{kind}"
    config_name, model_name = _NAMES[kind]
    config = getattr(import_module(f"{package}.configuration_{kind}"), config_name)(
        chunk_size=HORIZON,
        n_action_steps=HORIZON,
        max_state_dim=shape.action_dim,
        max_action_dim=shape.action_dim,
        device="cpu",
    )
    module = import_module(f"{package}.modeling_{kind}")
    with _sizes(module, shape):
        model = getattr(module, model_name)(config).eval()
    tensors = case.tensors()
    embedding = f"{_ROOT}.paligemma.model.language_model.embed_tokens.weight"
    tensors[embedding] = tensors[f"{_ROOT}.paligemma.lm_head.weight"]
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    # the action expert's own head is never read
    left = [name for name in missing if name != f"{_ROOT}.gemma_expert.lm_head.weight"]
    if left or unexpected:
        raise SystemExit(f"LeRobot's weights: missing {left}, unexpected {unexpected}")
    return model


@contextlib.contextmanager
def _sizes(module: Any, shape: ModelShape) -> Iterator[None]:
    """Let the module build models of this shape, whatever sizes it has names for."""

    def gemma(variant: str) -> Any:
        expert = variant == "gemma_300m"
        return module.GemmaConfig(
            width=shape.expert_width if expert else shape.width,
            depth=shape.depth,
            mlp_dim=shape.expert_mlp if expert else shape.mlp,
            num_heads=shape.heads,
            num_kv_heads=shape.key_heads,
            head_dim=shape.head_width,
        )

    def sized(build: Callable[..., Any]) -> Callable[..., Any]:
        return lambda config: build(config=_sized(config, shape))

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(module, "get_gemma_config", gemma))
        for name in _MODELS:
            build = sized(getattr(module, name))
            stack.enter_context(mock.patch.object(module, name, build))
        yield


def _sized(config: Any, shape: ModelShape) -> Any:
    text = getattr(config, "text_config", config)
    text.vocab_size = shape.vocabulary
    if text is not config:
        config._vocab_size = shape.vocabulary
        config.image_token_index = shape.vocabulary
        vision = {
            "patch_size": shape.patch,
            "hidden_size": shape.vision_width,
            "num_hidden_layers": shape.vision_depth,
            "num_attention_heads": shape.vision_heads,
            "intermediate_size": shape.vision_mlp,
            "projection_dim": shape.width,
        }
        for name, value in vision.items():
            setattr(config.vision_config, name, value)
    return config
