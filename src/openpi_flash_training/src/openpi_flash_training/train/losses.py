"""The loss of a batch: flow matching or FAST tokens, the subtask, extra losses, weighted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax

from openpi_flash_models.model.inputs import CAMERAS
from openpi_flash_models.model.shape import ModelShape
from openpi_flash_training.train.augment import AugmentSettings
from openpi_flash_training.train.batch import Batch
from openpi_flash_training.train.extra_losses import ExtraLosses
from openpi_flash_training.train.lora import LoraSettings

Params = Mapping[str, Any]


@dataclass(frozen=True)
class LossSettings:
    """What a loss is made of; hashable, so that it can be a static argument.

    Attributes:
        shape: of the model; its kind decides between flow matching and FAST tokens.
        cameras: names of the batch's cameras in the order of the model's slots.
        dtype: in which the layers compute: ``float32`` or ``bfloat16``. Parameters keep theirs,
            gradients have the dtype of the parameters.
        lora: scaling of the adapters in the parameters; None: there are none.
        augment: the images' augmentation; None: images as they are (for evaluation).
        flow_samples: pairs of noise and time per encoded observation.
        max_delay: training-time RTC: the largest number of first actions that are given clean;
            the number is drawn for each row from 0 to this. 0: no RTC.
        subtask_weight: of the subtask loss, where the batch has subtasks.
        extra: extra losses and their weights.
        remat: compute each layer again in the backward pass, which needs less memory and a third
            more time.
    """

    shape: ModelShape
    cameras: tuple[str, ...] = CAMERAS
    dtype: str = "float32"
    lora: LoraSettings | None = None
    augment: AugmentSettings | None = None
    flow_samples: int = 1
    max_delay: int = 0
    subtask_weight: float = 1.0
    extra: ExtraLosses = field(default_factory=ExtraLosses)
    remat: bool = False


def loss(
    params: Params, batch: Batch, key: jax.Array, *, settings: LossSettings
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean loss of a batch, and what it is made of.

    Pure; ``jax.jit(loss, static_argnames="settings")`` and ``jax.grad(..., has_aux=True)`` apply.

    Args:
        params: openpi's nested tree without ``params``, with adapters and extra heads if any.
        batch: the samples.
        key: of augmentation, noise, times and delays; the same key gives the same loss.
        settings: what the loss is made of.

    Returns:
        The weighted sum of the losses, float32 scalar, each a mean over the batch; and float32
        scalars by name: ``flow_loss`` or ``token_loss``, ``subtask_loss`` and ``detection_loss``,
        ``position_loss`` where they apply, with accuracies.
    """
    raise NotImplementedError
