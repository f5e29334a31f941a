"""transformers' pi0 of a case's sizes and weights; it has no pi0.5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torch_case import HORIZON, STEPS, Case

from openpi_flash_models.model.shape import ModelKind

KINDS: tuple[ModelKind, ...] = ("pi0",)


def sampler(case: Case) -> Callable[[], Tensor]:
    """Function that denoises the case's chunk."""
    model = _model(case)
    image_token = model.config.vlm_config.image_token_id
    cameras = int(case.present.sum()) * case.shape.image_tokens
    words = len(case.words)
    ids = np.zeros((1, cameras + case.slots), np.int64)
    ids[:, :cameras] = image_token
    ids[:, cameras : cameras + words] = case.words
    mask = np.arange(cameras + case.slots) < cameras + words
    arguments: dict[str, Any] = {
        "state": torch.from_numpy(case.state),
        "input_ids": torch.from_numpy(ids),
        "pixel_values": torch.from_numpy(case.images.transpose(0, 1, 4, 2, 3).copy()),
        "pixel_attention_mask": torch.from_numpy(case.present[None]),
        "attention_mask": torch.from_numpy(mask[None].astype(np.int64)),
        "num_steps": STEPS,
    }
    return lambda: model.sample_actions(noise=torch.from_numpy(case.noise), **arguments)


def _model(case: Case) -> Any:
    shape = case.shape
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
    tensors = {_peer_name(name): tensor for name, tensor in case.tensors().items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    # the action expert's own embedding is never read
    left = [name for name in missing if "dit.embed_tokens" not in name]
    if left or unexpected:
        raise SystemExit(f"transformers' weights: missing {left}, unexpected {unexpected}")
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
