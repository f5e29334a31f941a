"""pi0.5: actions from pictures and words by flow matching.

    prefix  = [camera 0][camera 1]...[prompt, robot state in words]     once per call
    suffix  = [action 0 .. action H-1], noisy                           once per denoising step

Every valid prefix token sees every valid prefix token; every action sees the prefix and all
actions. Time runs from 1 (noise) to 0 (actions): ``x += dt * velocity(x, t)`` with ``dt < 0``.

Shapes: B batch, C cameras, P tokens per camera, L prompt slots, S = C * P + L, H horizon, A action
width of the model, D language width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from openpi_flash_models.inputs import ModelInputs
from openpi_flash_models.jax_models import gemma, siglip

# Periods of the time features: from 4 ms to 4 s of "flow time", which is [0, 1].
MIN_PERIOD, MAX_PERIOD = 4e-3, 4.0

Params = Mapping[str, Any]

jax.tree_util.register_dataclass(
    ModelInputs,
    data_fields=["images", "image_mask", "tokens", "token_mask"],
    meta_fields=[],
)


class Prefix(NamedTuple):
    """What the prefix pass leaves behind.

    Attributes:
        cache: keys and values of the prefix for every layer.
        valid: [B, S] bool.
        length: [B] int, valid tokens = the position of the first token after the prefix.
    """

    cache: gemma.KeyValues
    valid: jax.Array
    length: jax.Array


def embed_prefix(params: Params, inputs: ModelInputs) -> tuple[jax.Array, jax.Array]:
    """Tokens [B, S, D] of pictures and words, and which of them are valid [B, S]."""
    vlm = params["PaliGemma"]
    batch, cameras = inputs.images.shape[:2]
    pictures = scale_images(inputs.images).reshape(batch * cameras, *inputs.images.shape[2:])
    seen = siglip.encode_images(vlm["img"], pictures)  # all cameras in one call
    per_camera = seen.shape[1]
    seen = seen.reshape(batch, cameras * per_camera, -1)
    read = gemma.embed_tokens(vlm["llm"], inputs.tokens)
    valid = jnp.concatenate(
        [jnp.repeat(inputs.image_mask, per_camera, axis=1), inputs.token_mask], axis=1
    )
    return jnp.concatenate([seen, read], axis=1), valid


def scale_images(images: jax.Array) -> jax.Array:
    """uint8 to float32 in [-1, 1]; float images are in that range already."""
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255.0 * 2.0 - 1.0
    return images.astype(jnp.float32)


def run_prefix(
    params: Params, tokens: jax.Array, valid: jax.Array, wanted: jax.Array
) -> tuple[jax.Array, Prefix]:
    """Run expert 0 over the prefix.

    Args:
        params: the checkpoint's tree.
        tokens: [B, S, D].
        valid: [B, S] bool.
        wanted: [B, Q] int, which tokens' outputs are read; actions need none of them.

    Returns:
        The normed output [B, Q, D] of the wanted tokens, and what the suffix needs.
    """
    positions = jnp.cumsum(valid, axis=1) - 1  # masked tokens take no position
    mask = valid[:, :, None] & valid[:, None, :]
    expert = gemma.select_expert(params["PaliGemma"]["llm"], 0)
    hidden, cache = gemma.read_layers(expert, tokens, positions, mask, wanted)
    return hidden, Prefix(cache, valid, valid.sum(axis=1))


def time_features(time: jax.Array, width: int) -> jax.Array:
    """Sines and cosines [B, width] of times [B], over periods from MIN_PERIOD to MAX_PERIOD."""
    fraction = jnp.linspace(0.0, 1.0, width // 2, dtype=jnp.float32)
    periods = MIN_PERIOD * (MAX_PERIOD / MIN_PERIOD) ** fraction
    angles = time[:, None] * (1.0 / periods * 2 * jnp.pi)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def embed_time(params: Params, time: jax.Array) -> jax.Array:
    """The condition [B, D1] of the action expert's norms, in float32."""
    width = params["time_mlp_in"]["kernel"].shape[0]
    x = time_features(time, width)
    for name in ("time_mlp_in", "time_mlp_out"):
        x = jax.nn.silu(_linear(params[name], x))
    return x


def velocity(params: Params, prefix: Prefix, x: jax.Array, time: jax.Array) -> jax.Array:
    """The flow [B, H, A] at noisy actions ``x`` [B, H, A] (float32) and times [B]."""
    dtype = params["action_out_proj"]["kernel"].dtype
    horizon = x.shape[1]
    tokens = _linear(params["action_in_proj"], x).astype(dtype)
    positions = prefix.length[:, None] + jnp.arange(horizon)
    seen = jnp.concatenate([prefix.valid, jnp.ones((x.shape[0], horizon), bool)], axis=1)
    mask = jnp.broadcast_to(seen[:, None, :], (x.shape[0], horizon, seen.shape[1]))
    hidden, _ = gemma.run_layers(
        gemma.select_expert(params["PaliGemma"]["llm"], 1),
        tokens,
        positions,
        mask,
        past=prefix.cache,
        condition=embed_time(params, time),
    )
    return _linear(params["action_out_proj"], hidden).astype(jnp.float32)


@jax.jit
def sample_actions(
    params: Params, inputs: ModelInputs, noise: jax.Array, num_steps: jax.Array
) -> jax.Array:
    """Denoise a chunk: the whole call as one compiled program.

    Args:
        params: the checkpoint's tree.
        inputs: a batch of observations.
        noise: [B, H, A] float32, standard normal.
        num_steps: int scalar; traced, so that any number of steps runs the same program.

    Returns:
        Normalised actions [B, H, A], float32.
    """
    tokens, valid = embed_prefix(params, inputs)
    no_output = jnp.zeros((tokens.shape[0], 0), jnp.int32)
    _, prefix = run_prefix(params, tokens, valid, no_output)
    step_size = -1.0 / num_steps.astype(jnp.float32)

    def euler_step(_: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, time = carry
        flow = velocity(params, prefix, x, jnp.broadcast_to(time, x.shape[:1]))
        # Time is summed up in float32, as in training code that made these weights:
        # 1, 0.9, 0.79999995, ...
        return x + step_size * flow, time + step_size

    start = (noise.astype(jnp.float32), jnp.float32(1.0))
    return jax.lax.fori_loop(0, num_steps, euler_step, start)[0]


def _linear(params: Params, x: jax.Array) -> jax.Array:
    product: jax.Array = x @ params["kernel"]
    return product + params["bias"]
