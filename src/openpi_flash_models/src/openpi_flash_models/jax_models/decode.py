"""Greedy decoding with the language expert: one compiled program, or one for each part of it.

The prefix runs once; then a loop feeds one token at a time and ends at EOS. In parts (``embed``,
``begin``, ``go_on``) another model can use the device between the programs. Keys and
values are kept in arrays of fixed capacity (a KV cache), so neither the program nor its memory
grows with the text. Logits are the hidden state times the embedding table (Gemma ties the two, as
in arXiv 2403.08295), cut to the rows of the allowed tokens.

pi0.5 (arXiv 2504.16054) decodes its subtask this way, pi0-FAST (arXiv 2501.09747) its actions.

Shapes: B batch, S prefix slots, M maximal tokens, D width, A allowed tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from openpi_flash_models.jax_models import gemma
from openpi_flash_models.jax_models.arch import Arch
from openpi_flash_models.jax_models.prefix import embed_prefix, read_embedded
from openpi_flash_models.jax_models.quantized import Quantized
from openpi_flash_models.model.inputs import ModelInputs

Params = Mapping[str, Any]


NON_FINITE = -1
"""Stands for a token whose logits were not finite; no vocabulary has this id."""


class Head(NamedTuple):
    """The output head: the embedding rows of the allowed tokens.

    Attributes:
        ids: [A] int32, ascending.
        rows: [A, D], their embeddings.
    """

    ids: jax.Array
    rows: jax.Array | Quantized


class DecodeState(NamedTuple):
    """The state that one decoding step passes to the next.

    Attributes:
        cache: keys and values of the prefix, then of the decoded tokens: S + M slots per layer.
        seen: [B, S + M] bool, filled slots.
        position: [B] int, of the next token.
    """

    cache: gemma.Cache
    seen: jax.Array
    position: jax.Array


class Text(NamedTuple):
    """A text that is being decoded.

    Attributes:
        length: int32 scalar, tokens chosen so far.
        token: [B] int32, the last of them.
        done: [B] bool, rows that are complete.
        ids: [B, M] int32, the tokens chosen so far, then zeros.
        state: after all of them but the last.
    """

    length: jax.Array
    token: jax.Array
    done: jax.Array
    ids: jax.Array
    state: DecodeState


def cut_head(weights: Params, allowed: jax.Array) -> Head:
    """A head of the allowed tokens; ``allowed`` is [V] bool."""
    ids = jnp.flatnonzero(allowed).astype(jnp.int32)
    # of quantized rows the values and the scales
    return Head(ids, jax.tree.map(lambda part: part[ids], weights["embedding"]))


def whole_head(weights: Params) -> Head:
    """A head of the whole vocabulary; the table itself, not a copy."""
    table = weights["embedding"]
    return Head(jnp.arange(table.shape[0], dtype=jnp.int32), table)


def logits(head: Head, hidden: jax.Array) -> jax.Array:
    """[B, A] float32 of final hidden states [B, D]."""
    if isinstance(head.rows, Quantized):
        return head.rows.T.sums(hidden)
    return jnp.einsum("bd,ad->ba", hidden, head.rows, preferred_element_type=jnp.float32)


def read_prefix(
    arch: Arch, weights: Params, inputs: ModelInputs, max_tokens: int
) -> tuple[jax.Array, DecodeState]:
    """Run the prefix; returns the hidden state [B, D] of its last token, and the decode state."""
    return _read(arch, weights, embed_prefix(arch, weights, inputs), max_tokens)


def _read(
    arch: Arch, weights: Params, embedded: tuple[jax.Array, jax.Array], max_tokens: int
) -> tuple[jax.Array, DecodeState]:
    hidden, prefix = read_embedded(arch, weights, *embedded)

    def with_room(x: jax.Array) -> jax.Array:  # [..., B, S, K, H]
        return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(0, max_tokens), (0, 0), (0, 0)])

    cache = jax.tree.map(with_room, prefix.cache)
    seen = jnp.pad(prefix.valid, ((0, 0), (0, max_tokens)))
    return hidden, DecodeState(cache, seen, prefix.length)


def decode_step(
    arch: Arch, weights: Params, state: DecodeState, token: jax.Array, slot: jax.Array
) -> tuple[jax.Array, DecodeState]:
    """Feed one token [B]; returns the hidden state [B, D] after it.

    Args:
        arch: sizes and switches.
        weights: of the model.
        state: after the previous token.
        token: [B] int32.
        slot: for the token's keys and values; the caller counts up from S.
    """
    hidden, own = gemma.run_layers(
        arch,
        weights["language"],
        gemma.embed_tokens(weights["embedding"], token[:, None]),
        state.position[:, None],
        None,
        past=(gemma.Past(state.cache, state.seen),),
    )

    def put(cache: jax.Array, new: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(cache, new, slot, axis=cache.ndim - 3)

    cache = jax.tree.map(put, state.cache, own)
    itself = jnp.ones((token.shape[0], 1), bool)
    seen = jax.lax.dynamic_update_slice_in_dim(state.seen, itself, slot, axis=1)
    return hidden[:, 0], DecodeState(cache, seen, state.position + 1)


@partial(jax.jit, static_argnames=("arch", "max_tokens", "skipped_positions"))
def decode(
    arch: Arch,
    weights: Params,
    head: Head,
    inputs: ModelInputs,
    eos: jax.Array,
    *,
    max_tokens: int,
    skipped_positions: int = 0,
) -> jax.Array:
    """Token ids [B, M] of the most likely tokens, zeros after EOS.

    A row whose logits are not finite ends with ``NON_FINITE``.

    Args:
        arch: sizes and switches.
        weights: of the model.
        head: of the allowed tokens.
        inputs: images and prompts.
        eos: int32 scalar, the id of EOS.
        max_tokens: M; the program is compiled for it.
        skipped_positions: positions left out between the prefix and the first token: 1 for
            pi0-FAST, as in openpi's ``pi0_fast.py``, with which its weights were evaluated.
    """
    text = begin(
        arch,
        weights,
        head,
        embed(arch, weights, inputs),
        eos=eos,
        max_tokens=max_tokens,
        skipped_positions=skipped_positions,
    )
    return go_on(arch, weights, head, text, eos=eos, tokens=jnp.int32(max_tokens)).ids


@partial(jax.jit, static_argnames=("arch",))
def embed(arch: Arch, weights: Params, inputs: ModelInputs) -> tuple[jax.Array, jax.Array]:
    """The first part of ``decode``: see ``prefix.embed_prefix``."""
    return embed_prefix(arch, weights, inputs)


@partial(jax.jit, static_argnames=("arch", "max_tokens", "skipped_positions"))
def begin(
    arch: Arch,
    weights: Params,
    head: Head,
    embedded: tuple[jax.Array, jax.Array],
    *,
    eos: jax.Array,
    max_tokens: int,
    skipped_positions: int = 0,
) -> Text:
    """The second part of ``decode``: runs the prefix that ``embed`` made, chooses one token."""
    hidden, state = _read(arch, weights, embedded, max_tokens)
    state = state._replace(position=state.position + skipped_positions)
    batch = hidden.shape[0]
    token, done = _choose(head, hidden, jnp.zeros(batch, bool), eos)
    ids = jnp.zeros((batch, max_tokens), jnp.int32).at[:, 0].set(token)
    return Text(jnp.int32(1), token, done, ids, state)


@partial(jax.jit, static_argnames=("arch",), donate_argnames=("text",))
def go_on(
    arch: Arch, weights: Params, head: Head, text: Text, *, eos: jax.Array, tokens: jax.Array
) -> Text:
    """A further part of ``decode``: chooses at most ``tokens`` (int32 scalar) more.

    ``text`` cannot be used again: its buffers become the result's.
    """
    max_tokens = text.ids.shape[1]
    until = jnp.minimum(text.length + tokens, max_tokens)
    slots = text.state.seen.shape[1] - max_tokens

    def is_unfinished(text: Text) -> jax.Array:
        return (text.length < until) & ~jnp.all(text.done)

    def next_token(text: Text) -> Text:
        slot = slots + text.length - 1
        hidden, state = decode_step(arch, weights, text.state, text.token, slot)
        token, done = _choose(head, hidden, text.done, eos)
        return Text(text.length + 1, token, done, text.ids.at[:, text.length].set(token), state)

    return jax.lax.while_loop(is_unfinished, next_token, text)


def _choose(
    head: Head, hidden: jax.Array, done: jax.Array, eos: jax.Array
) -> tuple[jax.Array, jax.Array]:
    scores = logits(head, hidden)
    token = jnp.where(done, 0, head.ids[jnp.argmax(scores, axis=-1)])
    is_finite = jnp.isfinite(scores.max(axis=-1))
    token = jnp.where(is_finite, token, NON_FINITE)
    return token, done | (token == eos) | ~is_finite
