"""Runs the suffix, noisy actions, through the action expert, which gives the flow's velocity.

    pi0     [state][action 0 .. action H-1]     time goes into every action token
    pi0.5   [action 0 .. action H-1]            time goes into every norm, the state into the prompt

Every action attends to the prefix, the state and all actions; the state attends to the prefix and
itself. Source: ``embed_suffix`` in ``openpi/models/pi0.py``.

Shapes: B batch, H horizon, A action width of the model, D width of the action expert, L layers,
F flow times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from openpi_flash_models.jax_models import gemma
from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.jax_models.prefix import Prefix

# Periods of the time features; the flow time is in [0, 1].
MIN_PERIOD, MAX_PERIOD = 4e-3, 4.0

Params = Mapping[str, Any]


class TimeFeatures(NamedTuple):
    """Features of the flow time alone, [F, ...]; the parts that a model lacks are None.

    Attributes:
        time: [F, D] float32, pi0: the features, or their share of the first layer's sums.
        pre_attention: [F, L, 3 D], pi0.5: modulation of the norms before attention.
        pre_ffw: [F, L, 3 D], pi0.5: of those before the feed-forward layers.
        final: [F, 3 D], pi0.5: of the last norm.
    """

    time: jax.Array | None
    pre_attention: jax.Array | None
    pre_ffw: jax.Array | None
    final: jax.Array | None


class Context(NamedTuple):
    """What the suffix attends to besides itself.

    Attributes:
        past: the prefix; and pi0's state, if it was run ahead.
        position: [B] int, of the suffix's first token.
        state: [B, 1, D] pi0's state token, if it runs in every step.
    """

    past: tuple[gemma.Past, ...]
    position: jax.Array
    state: jax.Array | None


def sines_and_cosines(time: jax.Array, width: int) -> jax.Array:
    """[F, width] of times [F], over periods from MIN_PERIOD to MAX_PERIOD.

    Source: ``posemb_sincos`` in ``openpi/models/pi0.py``.
    """
    fraction = jnp.linspace(0.0, 1.0, width // 2, dtype=jnp.float32)
    periods = MIN_PERIOD * (MAX_PERIOD / MIN_PERIOD) ** fraction
    angles = time[:, None] * (1.0 / periods * 2 * jnp.pi)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def embed_time(heads: Params, time: jax.Array) -> jax.Array:
    """The condition [F, D] of pi0.5's norms, in float32."""
    x = sines_and_cosines(time, heads["time_mlp_in"]["kernel"].shape[0])
    for name in ("time_mlp_in", "time_mlp_out"):
        x = jax.nn.silu(linear(heads[name], x))
    return x


def time_features(arch: Arch, weights: Params, times: jax.Array) -> TimeFeatures:
    """The features of all ``times`` [F] at once."""
    heads, tower = weights["heads"], weights["expert"]
    if arch.shape.kind == "pi0":
        features = sines_and_cosines(times, arch.shape.expert_width)
        if arch.graph.modulate_once:
            features = features @ heads["action_time_mlp_in"]["kernel"][arch.shape.expert_width :]
        return TimeFeatures(features, None, None, None)
    dtype = _dtype(arch, heads)
    condition = embed_time(heads, times).astype(dtype)

    def narrow(norm: Params) -> Params:
        return {name: leaf.astype(dtype) for name, leaf in norm["Dense_0"].items()}

    def of_layers(name: str) -> jax.Array:
        layers = tower["layers"]
        if isinstance(layers, list):
            each = [linear(narrow(layer[name]), condition) for layer in layers]
            return jnp.stack(each, axis=1)
        dense = narrow(layers[name])
        return jnp.einsum("fd,ldk->flk", condition, dense["kernel"]) + dense["bias"]

    return TimeFeatures(
        None,
        of_layers("pre_attention_norm"),
        of_layers("pre_ffw_norm"),
        linear(narrow(tower["final_norm"]), condition),
    )


def at_time(features: TimeFeatures, index: jax.Array | int) -> TimeFeatures:
    """The features of some of the times.

    Args:
        features: of F times.
        index: of the time: one for all tokens (a scalar), one for each row [B], or one for each
            action [B, H].

    Returns:
        Features [B or 1, H or 1, ...] instead of [F, ...], behind the axis of layers.
    """
    if jnp.ndim(index) == 0:
        # with a check of the index: of a bare slice XLA makes a copy outside of the CUDA graph
        one = jax.tree.map(lambda f: jnp.take(f, index, axis=0, mode="fill"), features)

        def for_all(x: jax.Array | None) -> jax.Array | None:
            return None if x is None else x[..., None, None, :]

        return TimeFeatures(*(for_all(part) for part in one))
    rows = jnp.asarray(index)
    taken = jax.tree.map(lambda f: f[rows if rows.ndim == 2 else rows[:, None]], features)

    def layers_first(x: jax.Array | None) -> jax.Array | None:
        return None if x is None else jnp.moveaxis(x, 2, 0)

    return TimeFeatures(
        taken.time, layers_first(taken.pre_attention), layers_first(taken.pre_ffw), taken.final
    )


def where(chosen: jax.Array, one: TimeFeatures, other: TimeFeatures) -> TimeFeatures:
    """The features of ``one`` for the tokens of ``chosen`` [B, T], those of ``other`` elsewhere."""
    return jax.tree.map(lambda a, b: jnp.where(chosen[..., None], a, b), one, other)


def context_of(arch: Arch, weights: Params, prefix: Prefix, state: jax.Array | None) -> Context:
    """What the suffix attends to; ``state`` [B, A] is pi0's."""
    if arch.shape.kind != "pi0":
        return Context((prefix.past,), prefix.length, None)
    assert state is not None, "pi0 reads the state"
    heads = weights["heads"]
    token = linear(heads["state_proj"], state)[:, None]
    token = token.astype(_dtype(arch, heads))
    if not arch.graph.static_cache:
        return Context((prefix.past,), prefix.length, token)
    # The state does not attend to the actions, so its keys and values are the same in every step.
    _, own = gemma.run_layers(
        arch, weights["expert"], token, prefix.length[:, None], None, past=(prefix.past,)
    )
    alone = gemma.Past(own, jnp.ones((token.shape[0], 1), bool))
    return Context((prefix.past, alone), prefix.length + 1, None)


def velocity(
    arch: Arch, weights: Params, context: Context, x: jax.Array, now: TimeFeatures
) -> jax.Array:
    """The flow [B, H, A] float32 at noisy actions ``x`` [B, H, A] float32.

    Args:
        arch: sizes and switches.
        weights: of the model.
        context: what the actions attend to.
        x: noisy actions.
        now: features of the flow time, ``[B|1, H|1]`` of them.
    """
    heads, horizon = weights["heads"], x.shape[1]
    dtype = _dtype(arch, heads)
    tokens = linear(heads["action_in_proj"], x)
    if now.time is not None:
        tokens = _with_time(arch, heads, tokens, now.time)
    tokens = tokens.astype(dtype)
    mask = None
    if context.state is not None:
        tokens = jnp.concatenate([context.state, tokens], axis=1)
        from_state = jnp.arange(horizon + 1) == 0
        mask = (~from_state[:, None] | from_state[None, :])[None]
    modulation = None
    if now.pre_attention is not None:
        assert now.pre_ffw is not None, "both norms of a layer are adaptive, or none"
        assert now.final is not None, "the final norm is adaptive if the layers' norms are"
        modulation = gemma.Modulation(now.pre_attention, now.pre_ffw, now.final)
    hidden, _ = gemma.run_layers(
        arch,
        weights["expert"],
        tokens,
        context.position[:, None] + jnp.arange(tokens.shape[1]),
        mask,
        past=context.past,
        modulation=modulation,
    )
    return linear(heads["action_out_proj"], hidden[:, -horizon:]).astype(jnp.float32)


def _dtype(arch: Arch, heads: Params) -> Any:
    """In which the expert's layers compute."""
    return arch.dtype or heads["action_out_proj"]["kernel"].dtype


def _with_time(arch: Arch, heads: Params, tokens: jax.Array, time: jax.Array) -> jax.Array:
    first = heads["action_time_mlp_in"]
    if arch.graph.modulate_once:
        # the product of [action, time] with the kernel, in its two halves
        share = tokens @ first["kernel"][: arch.shape.expert_width]
        sums = share + time + first["bias"]
    else:
        time = jnp.broadcast_to(time, tokens.shape)
        sums = linear(first, jnp.concatenate([tokens, time], axis=-1))
    return linear(heads["action_time_mlp_out"], jax.nn.silu(sums))


def linear(params: Params, x: jax.Array) -> jax.Array:
    """``x`` times the kernel, plus the bias."""
    product: jax.Array = x @ params["kernel"]
    return product + params["bias"]
