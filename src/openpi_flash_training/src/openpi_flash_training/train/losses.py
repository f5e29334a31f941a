"""The loss of a batch: flow matching or FAST tokens, the subtask, extra losses, weighted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from openpi_flash_models.jax_models.prefix import scale_images
from openpi_flash_models.model.inputs import CAMERAS
from openpi_flash_models.model.shape import ModelShape
from openpi_flash_training.train.augment import AugmentSettings, augment
from openpi_flash_training.train.batch import Batch
from openpi_flash_training.train.extra_losses import (
    HEADS,
    ExtraLosses,
    detection_loss,
    position_loss,
    without_heads,
)
from openpi_flash_training.train.flow_loss import draw_samples, flow_loss
from openpi_flash_training.train.forward import Model, Seen, build_model, last_of, read_text, see
from openpi_flash_training.train.lora import LoraSettings, has_adapters
from openpi_flash_training.train.token_loss import token_loss

Params = Mapping[str, Any]
Losses = dict[str, jax.Array]


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
        unroll: layers one after the other in the program instead of a loop: faster for models of
            a few layers, and slow to compile for others.
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
    unroll: bool = False


def loss(
    params: Params, batch: Batch, key: jax.Array, *, settings: LossSettings
) -> tuple[jax.Array, Losses]:
    """The mean loss of a batch, and what it is made of.

    Pure; ``jax.jit(loss, static_argnames="settings")`` and ``jax.grad(..., has_aux=True)`` apply.
    It is a mean over rows: the mean of the losses of a batch's equal parts is the batch's.

    Args:
        params: openpi's nested tree without ``params``, with adapters and extra heads if any.
        batch: the samples.
        key: of augmentation, noise, times and delays; the same key gives the same loss.
        settings: what the loss is made of.

    Returns:
        The weighted sum of the losses, float32 scalar, each a mean over the batch; and float32
        scalars by name: ``flow_loss`` or ``token_loss``, ``subtask_loss`` and ``detection_loss``,
        ``position_loss`` where they apply, with accuracies.

    Raises:
        ValueError: the batch, the parameters and the settings do not fit together.
    """
    _check(params, batch, settings)
    model = build_model(
        without_heads(params),
        settings.shape,
        dtype=settings.dtype,
        lora=settings.lora,
        remat=settings.remat,
        unroll=settings.unroll,
    )
    images, points = _pictures(batch, jax.random.split(key, 3)[0], settings)
    mask = jnp.stack([batch.image_masks[name] for name in settings.cameras], axis=1)
    seen = see(model, images, mask)
    heads = params.get(HEADS, {})
    if settings.shape.kind == "pi0_fast":
        found = token_loss(model, seen, batch.prompt, plain_positions=True)
        made = {"token_loss": found.loss.mean(), "token_accuracy": found.accuracy}
    else:
        made = _action_losses(model, heads, seen, batch, key=key, settings=settings)
    weights = {"flow_loss": 1.0, "token_loss": 1.0, "position_loss": settings.extra.position_weight}
    if batch.subtask is not None:
        said = token_loss(model, seen, batch.subtask)
        made |= {"subtask_loss": said.loss.mean(), "subtask_accuracy": said.accuracy}
        weights["subtask_loss"] = settings.subtask_weight
    if points is not None:
        error, share = detection_loss(heads["detection"], seen.tokens, points, mask)
        made |= {"detection_loss": error, "detection_accuracy": share}
        weights["detection_loss"] = settings.extra.detection_weight
    total = sum((weights[name] * made[name] for name in weights if name in made), jnp.float32(0))
    return total, made


def _action_losses(
    model: Model,
    heads: Params,
    seen: Seen,
    batch: Batch,
    *,
    key: jax.Array,
    settings: LossSettings,
) -> Losses:
    has_position = settings.extra.coordinates > 0
    wanted = last_of(batch.prompt.mask)[:, None] if has_position else None
    hidden, prefix = read_text(model, seen, batch.prompt, wanted)
    state = batch.state if settings.shape.kind == "pi0" else None
    samples = draw_samples(key, batch.actions.shape, settings.flow_samples, settings.max_delay)
    errors = flow_loss(
        model, prefix, state, batch.actions, samples, has_delay=settings.max_delay > 0
    )
    made = {"flow_loss": errors.mean()}
    if has_position:
        assert batch.labels is not None, "checked before"
        position = batch.labels["position"]
        made["position_loss"] = position_loss(heads["position"], hidden[:, 0], position)
    return made


def _pictures(
    batch: Batch, key: jax.Array, settings: LossSettings
) -> tuple[jax.Array, jax.Array | None]:
    """Images [B, C, side, side, 3] float32 in [-1, 1], and points in them [B, C, O, 2]."""
    has_points = settings.extra.objects > 0
    images, points = [], []
    for place, camera in enumerate(settings.cameras):
        image = scale_images(batch.images[camera])
        marked = batch.labels["points"][camera] if has_points and batch.labels else None
        if settings.augment is not None:
            of_camera = jax.random.fold_in(key, place)
            image, marked = augment(settings.augment, camera, image, marked, of_camera)
        images.append(image)
        if marked is not None:
            points.append(marked)
    return jnp.stack(images, axis=1), jnp.stack(points, axis=1) if points else None


def _check(params: Params, batch: Batch, settings: LossSettings) -> None:
    shape, extra = settings.shape, settings.extra
    wanted = (batch.size, shape.image_size, shape.image_size, 3)
    for camera in settings.cameras:
        if camera not in batch.images:
            raise ValueError(f"the batch has no images of {camera}, only of {list(batch.images)}")
        found = batch.images[camera].shape
        if found != wanted:
            raise ValueError(f"images of {camera} have shape {found}, the model reads {wanted}")
    if has_adapters(params) and settings.lora is None:
        raise ValueError("the parameters hold adapters, the settings have no lora: say their scale")
    if shape.kind != "pi0_fast":
        horizon, width = batch.actions.shape[1:]
        if width != shape.action_dim:
            raise ValueError(f"actions have {width} dimensions, the model {shape.action_dim}")
        if not 0 <= settings.max_delay < horizon:
            raise ValueError(
                f"max_delay is {settings.max_delay}, expected 0 to {horizon - 1}: an action at "
                "least has to have a loss"
            )
    if shape.kind == "pi0_fast" and extra.coordinates:
        raise ValueError("pi0-FAST reads actions behind its prompt: it has no position loss")
    labels = batch.labels or {}
    for name, needed, width in (
        ("points", "detection", extra.objects),
        ("position", "position", extra.coordinates),
    ):
        if width and name not in labels:
            raise ValueError(f"the {needed} loss needs labels named {name!r}, got {list(labels)}")
        if width and needed not in params.get(HEADS, {}):
            raise ValueError(f"the {needed} loss needs a head: add_heads makes one")
