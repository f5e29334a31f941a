"""Greedy decoding of a subtask from pi0.5's language expert, as one compiled program.

The prefix runs once; then a loop feeds one token at a time and leaves at the end mark. Keys and
values lie in arrays of fixed capacity, so that neither the program nor its memory grows with the
text. The head is the embedding table, cut to the rows of the words that may be said.

Shapes: B batch (1 in service), S prefix slots, M most tokens, D width, A words that may be said.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from openpi_flash_models.inputs import ModelInputs
from openpi_flash_models.jax_models import gemma, pi05


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
        cache: keys and values [L, B, S + M, K, H] of the prefix, then of what was said.
        seen: [B, S + M] bool, slots that hold something.
        position: [B] int, of the next token.
    """

    cache: gemma.KeyValues
    seen: jax.Array
    position: jax.Array


def cut_head(params: pi05.Params, allowed: jax.Array) -> Head:
    """The embedding rows of the allowed words; ``allowed`` is [V] bool."""
    ids = jnp.flatnonzero(allowed).astype(jnp.int32)
    return Head(ids, params["PaliGemma"]["llm"]["embedder"]["input_embedding"][ids])


def logits(head: Head, hidden: jax.Array) -> jax.Array:
    """[B, A] float32 of final hidden states [B, D]."""
    return jnp.einsum("bd,ad->ba", hidden, head.rows, preferred_element_type=jnp.float32)


def read_prefix(
    params: pi05.Params, inputs: ModelInputs, max_tokens: int
) -> tuple[jax.Array, Spoken]:
    """Run the prefix; returns the hidden state [B, D] of its last word, and the memory."""
    tokens, valid = pi05.embed_prefix(params, inputs)
    last = valid.shape[1] - 1 - jnp.argmax(valid[:, ::-1], axis=1)
    hidden, prefix = pi05.run_prefix(params, tokens, valid, last[:, None])

    def with_room(x: jax.Array) -> jax.Array:
        return jnp.pad(x, ((0, 0), (0, 0), (0, max_tokens), (0, 0), (0, 0)))

    cache = gemma.KeyValues(with_room(prefix.cache.keys), with_room(prefix.cache.values))
    seen = jnp.pad(valid, ((0, 0), (0, max_tokens)))
    return hidden[:, 0], Spoken(cache, seen, prefix.length)


def say(
    params: pi05.Params, spoken: Spoken, token: jax.Array, slot: jax.Array
) -> tuple[jax.Array, Spoken]:
    """Feed one token [B]; returns the hidden state [B, D] after it.

    Args:
        params: the checkpoint's tree.
        spoken: what was said before.
        token: [B] int32.
        slot: where its keys and values go; the caller counts on from S.
    """
    llm = params["PaliGemma"]["llm"]
    embedded = gemma.embed_tokens(llm, token[:, None])
    itself = jnp.ones((token.shape[0], 1), bool)
    mask = jnp.concatenate([spoken.seen, itself], axis=1)[:, None, :]
    hidden, own = gemma.run_layers(
        gemma.select_expert(llm, 0), embedded, spoken.position[:, None], mask, past=spoken.cache
    )

    def put(cache: jax.Array, new: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(cache, new, slot, axis=2)

    cache = gemma.KeyValues(put(spoken.cache.keys, own.keys), put(spoken.cache.values, own.values))
    seen = jax.lax.dynamic_update_slice_in_dim(spoken.seen, itself, slot, axis=1)
    return hidden[:, 0], Spoken(cache, seen, spoken.position + 1)


@partial(jax.jit, static_argnames=("max_tokens",))
def decode_subtask(
    params: pi05.Params, head: Head, inputs: ModelInputs, eos: jax.Array, *, max_tokens: int
) -> jax.Array:
    """Token ids [B, M] of the most likely words, zeros after the end mark.

    Args:
        params: the checkpoint's tree.
        head: what may be said.
        inputs: pictures and the task.
        eos: int32 scalar, the end mark.
        max_tokens: M; the program is compiled for it.
    """

    def choose(hidden: jax.Array, done: jax.Array) -> tuple[jax.Array, jax.Array]:
        token = jnp.where(done, 0, head.ids[jnp.argmax(logits(head, hidden), axis=-1)])
        return token, done | (token == eos)

    hidden, spoken = read_prefix(params, inputs, max_tokens)
    batch, slots = hidden.shape[0], spoken.seen.shape[1] - max_tokens
    token, done = choose(hidden, jnp.zeros(batch, bool))
    text = jnp.zeros((batch, max_tokens), jnp.int32).at[:, 0].set(token)

    def goes_on(carry: tuple[jax.Array, jax.Array, jax.Array, jax.Array, Spoken]) -> jax.Array:
        step, _, done, _, _ = carry
        return (step < max_tokens) & ~jnp.all(done)

    def next_token(
        carry: tuple[jax.Array, jax.Array, jax.Array, jax.Array, Spoken],
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, Spoken]:
        step, token, done, text, spoken = carry
        hidden, spoken = say(params, spoken, token, slots + step - 1)
        token, done = choose(hidden, done)
        return step + 1, token, done, text.at[:, step].set(token), spoken

    start = (jnp.int32(1), token, done, text, spoken)
    return jax.lax.while_loop(goes_on, next_token, start)[3]
