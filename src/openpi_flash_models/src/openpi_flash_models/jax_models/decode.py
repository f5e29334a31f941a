"""Greedy decoding from the language expert, as one compiled program.

The prefix runs once; then a loop feeds one token at a time and leaves at the end mark. Keys and
values lie in arrays of fixed capacity, so that neither the program nor its memory grows with the
text. The head is the embedding table, cut to the rows of the words that may be said.

pi0.5 says its subtask this way, pi0-FAST its actions.

Shapes: B batch, S prefix slots, M most tokens, D width, A words that may be said.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from openpi_flash_models.jax_models import gemma
from openpi_flash_models.jax_models.prefix import read_last
from openpi_flash_models.model.inputs import ModelInputs

Params = Mapping[str, Any]


UNSOUND = -1


class Head(NamedTuple):
    """What may be said.

    Attributes:
        ids: [A] int32, ascending.
        rows: [A, D], their embeddings.
    """

    ids: jax.Array
    rows: jax.Array


class Spoken(NamedTuple):
    """The memory of a decode.

    Attributes:
        cache: keys and values of the prefix, then of what was said: S + M slots per layer.
        seen: [B, S + M] bool, slots that hold something.
        position: [B] int, of the next token.
    """

    cache: gemma.Cache
    seen: jax.Array
    position: jax.Array


def cut_head(weights: Params, allowed: jax.Array) -> Head:
    """The embedding rows of the allowed words; ``allowed`` is [V] bool."""
    ids = jnp.flatnonzero(allowed).astype(jnp.int32)
    return Head(ids, weights["embedding"][ids])


def whole_head(weights: Params) -> Head:
    """Every word; the table itself, not a copy."""
    table = weights["embedding"]
    return Head(jnp.arange(table.shape[0], dtype=jnp.int32), table)


def logits(head: Head, hidden: jax.Array) -> jax.Array:
    """[B, A] float32 of final hidden states [B, D]."""
    return jnp.einsum("bd,ad->ba", hidden, head.rows, preferred_element_type=jnp.float32)


def read_prefix(
    arch: gemma.Arch, weights: Params, inputs: ModelInputs, max_tokens: int
) -> tuple[jax.Array, Spoken]:
    """Run the prefix; returns the hidden state [B, D] of its last word, and the memory."""
    hidden, prefix = read_last(arch, weights, inputs)

    def with_room(x: jax.Array) -> jax.Array:  # [..., B, S, K, H]
        return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(0, max_tokens), (0, 0), (0, 0)])

    cache = jax.tree.map(with_room, prefix.cache)
    seen = jnp.pad(prefix.valid, ((0, 0), (0, max_tokens)))
    return hidden, Spoken(cache, seen, prefix.length)


def say(
    arch: gemma.Arch, weights: Params, spoken: Spoken, token: jax.Array, slot: jax.Array
) -> tuple[jax.Array, Spoken]:
    """Feed one token [B]; returns the hidden state [B, D] after it.

    Args:
        arch: sizes and switches.
        weights: of the model.
        spoken: what was said before.
        token: [B] int32.
        slot: where its keys and values go; the caller counts on from S.
    """
    hidden, own = gemma.run_layers(
        arch,
        weights["language"],
        gemma.embed_tokens(weights["embedding"], token[:, None]),
        spoken.position[:, None],
        None,
        past=(gemma.Past(spoken.cache, spoken.seen),),
    )

    def put(cache: jax.Array, new: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(cache, new, slot, axis=cache.ndim - 3)

    cache = jax.tree.map(put, spoken.cache, own)
    itself = jnp.ones((token.shape[0], 1), bool)
    seen = jax.lax.dynamic_update_slice_in_dim(spoken.seen, itself, slot, axis=1)
    return hidden[:, 0], Spoken(cache, seen, spoken.position + 1)


@partial(jax.jit, static_argnames=("arch", "max_tokens", "skipped_positions"))
def decode(
    arch: gemma.Arch,
    weights: Params,
    head: Head,
    inputs: ModelInputs,
    eos: jax.Array,
    *,
    max_tokens: int,
    skipped_positions: int = 0,
) -> jax.Array:
    """Token ids [B, M] of the most likely words, zeros after the end mark.

    A model whose numbers are not finite says ``UNSOUND``.

    Args:
        arch: sizes and switches.
        weights: of the model.
        head: what may be said.
        inputs: pictures and words.
        eos: int32 scalar, the end mark.
        max_tokens: M; the program is compiled for it.
        skipped_positions: between the prefix and the first token: 1 for pi0-FAST, whose weights
            were used that way whenever they were evaluated.
    """

    def choose(hidden: jax.Array, done: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = logits(head, hidden)
        token = jnp.where(done, 0, head.ids[jnp.argmax(scores, axis=-1)])
        is_sound = jnp.isfinite(scores.max(axis=-1))
        token = jnp.where(is_sound, token, UNSOUND)
        return token, done | (token == eos) | ~is_sound

    hidden, spoken = read_prefix(arch, weights, inputs, max_tokens)
    spoken = spoken._replace(position=spoken.position + skipped_positions)
    batch, slots = hidden.shape[0], spoken.seen.shape[1] - max_tokens
    token, done = choose(hidden, jnp.zeros(batch, bool))
    text = jnp.zeros((batch, max_tokens), jnp.int32).at[:, 0].set(token)
    carry = tuple[jax.Array, jax.Array, jax.Array, jax.Array, Spoken]

    def goes_on(state: carry) -> jax.Array:
        step, _, done, _, _ = state
        return (step < max_tokens) & ~jnp.all(done)

    def next_token(state: carry) -> carry:
        step, token, done, text, spoken = state
        hidden, spoken = say(arch, weights, spoken, token, slots + step - 1)
        token, done = choose(hidden, done)
        return step + 1, token, done, text.at[:, step].set(token), spoken

    return jax.lax.while_loop(goes_on, next_token, (jnp.int32(1), token, done, text, spoken))[3]
