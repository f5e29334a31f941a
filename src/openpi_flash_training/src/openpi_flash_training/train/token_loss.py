"""Cross entropy of tokens: pi0-FAST's actions, and the planner's subtask.

The loss of a row is the mean over its own tokens with loss, that of a batch the mean over rows: a
row without such tokens counts as zero. Source: ``compute_loss`` of ``openpi/models/pi0_fast.py``.

Shapes: B batch, L tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from openpi_flash_training.train.batch import Tokens
from openpi_flash_training.train.forward import Model, Seen, read_text

_CHUNK = 16
"""Tokens of a row whose logits exist at once: 257152 of them are a megabyte each."""


class TokenLoss(NamedTuple):
    """How well tokens are predicted.

    Attributes:
        loss: [B] float32.
        log_probability: [B, L - 1] float32, of every token but the first.
        accuracy: float32 scalar, share of the tokens with loss that are the most likely.
    """

    loss: jax.Array
    log_probability: jax.Array
    accuracy: jax.Array


def token_loss(
    model: Model, seen: Seen, text: Tokens, *, plain_positions: bool = False
) -> TokenLoss:
    """Predict each token of a text from those before it.

    Args:
        model: which.
        seen: the images.
        text: with a loss mask; tokens with loss have to be causal.
        plain_positions: see ``forward.read_text``.
    """
    assert text.loss_mask is not None, "a text without a loss mask has no loss"
    batch, length = text.ids.shape
    read = Tokens(*(None if part is None else part[:, :-1] for part in _parts(text)))
    everywhere = jnp.broadcast_to(jnp.arange(length - 1), (batch, length - 1))
    hidden, _ = read_text(model, seen, read, everywhere, plain_positions=plain_positions)
    table = model.weights["embedding"]
    scores, is_best = _log_probabilities(table, hidden, text.ids[:, 1:])
    mask = text.loss_mask[:, 1:]
    loss = -(scores * mask).sum(1) / jnp.maximum(mask.sum(1), 1)
    accuracy = (is_best & mask).sum() / jnp.maximum(mask.sum(), 1)
    return TokenLoss(loss, scores, accuracy)


def _log_probabilities(
    table: jax.Array, hidden: jax.Array, targets: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of targets [B, L], and whether each is the most likely token.

    Logits are made for a few tokens at a time, and again in the backward pass.
    """
    batch, length = targets.shape
    chunks = -(-length // _CHUNK)
    padding = chunks * _CHUNK - length

    def chunked(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, ((0, 0), (0, padding), *((0, 0),) * (x.ndim - 2)))
        return jnp.moveaxis(padded.reshape(batch, chunks, _CHUNK, *x.shape[2:]), 1, 0)

    @jax.checkpoint
    def of_chunk(
        table: jax.Array, hidden: jax.Array, targets: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        logits = jnp.einsum("bld,vd->blv", hidden, table, preferred_element_type=jnp.float32)
        target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        return target - jax.nn.logsumexp(logits, axis=-1), logits.argmax(-1) == targets

    def step(_: None, given: tuple[jax.Array, jax.Array]) -> tuple[None, tuple[jax.Array, ...]]:
        return None, of_chunk(table, *given)

    _, made = jax.lax.scan(step, None, (chunked(hidden), chunked(targets)))
    scores, is_best = (jnp.moveaxis(x, 0, 1).reshape(batch, -1)[:, :length] for x in made)
    return scores, is_best


def _parts(text: Tokens) -> tuple[jax.Array | None, ...]:
    return text.ids, text.mask, text.causal, text.loss_mask
