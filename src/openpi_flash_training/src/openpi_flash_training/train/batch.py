"""The batch that a loss is computed on.

Shapes: B batch, H horizon, A action width of the model, L prompt slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class Tokens:
    """A text, padded on the right.

    Attributes:
        ids: [B, L] int32.
        mask: [B, L] bool, false for padding.
        causal: [B, L] bool, true for a token that attends to itself and to earlier tokens only,
            and that no earlier token attends to (openpi's ``token_ar_mask``). None: every token
            attends to every token.
        loss_mask: [B, L] bool, tokens that the model is trained to predict. None: no token.
    """

    ids: Any
    mask: Any
    causal: Any = None
    loss_mask: Any = None


@dataclass(frozen=True)
class Batch:
    """One batch of training samples, in the model's space; every array has the leading axis B.

    It is a pytree, so that it can be put on devices, sharded, split and traced. Fields that a
    loss does not use may be None: the program is compiled for those that are there.

    Attributes:
        images: [B, height, width, 3] by camera: uint8, or float32 already in [-1, 1]. Cameras
            have the names of the model's slots; their order is that of ``LossSettings.cameras``.
        image_masks: [B] bool by camera, false where there is no image.
        state: [B, A] float32, normalised and padded to the model's width; only pi0 reads it.
        actions: [B, H, A] float32, after the data transforms (delta), normalised and padded.
        prompt: what the action model reads: prompt, or for pi0-FAST prompt and action tokens.
        subtask: what the planner reads and says: its prompt (bidirectional), then the subtask's
            tokens and EOS (causal, with loss). None: no subtask loss.
        labels: of the extra losses, by their names; see ``extra_losses``. None: no extra loss.
    """

    images: Mapping[str, Any]
    image_masks: Mapping[str, Any]
    state: Any
    actions: Any
    prompt: Tokens
    subtask: Tokens | None = None
    labels: Mapping[str, Any] | None = None

    @property
    def size(self) -> int:
        """B."""
        return int(self.prompt.ids.shape[0])


jax.tree_util.register_dataclass(
    Tokens, data_fields=["ids", "mask", "causal", "loss_mask"], meta_fields=[]
)
jax.tree_util.register_dataclass(
    Batch,
    data_fields=["images", "image_masks", "state", "actions", "prompt", "subtask", "labels"],
    meta_fields=[],
)
