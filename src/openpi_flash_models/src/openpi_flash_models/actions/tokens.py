"""Decodes the tokens that pi0-FAST generates to a chunk of actions.

Format: ``FASTTokenizer`` in ``openpi/models/tokenizer.py``. Action token f has the id
``V - 1 - 128 - f`` in the language model: FAST takes the end of PaliGemma's vocabulary, before its
128 segmentation tokens. A generated chunk reads ``Action: <tokens>|``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from openpi_flash_models.actions.fast import FastTokenizer, find_fast_tokenizer
from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.errors import ActionDecodeError
from openpi_flash_models.text.tokenizer import EOS_ID, PAD_ID, PaligemmaTokenizer

_SEGMENT_MARKS = 128
_OPENING, _CLOSING = "Action: ", "|"
_BINS = 256
_SHOWN = 60


class ActionDecoder(Protocol):
    """Decodes generated ids to actions."""

    def decode(self, tokens: np.ndarray, horizon: int, action_dim: int) -> np.ndarray:
        """The chunk [horizon, action_dim], normalised, float64.

        Args:
            tokens: [N] generated ids of the language model; what follows EOS is padding.
            horizon: steps.
            action_dim: numbers per step.

        Raises:
            ActionDecodeError: the tokens are no such chunk; says why. Never zeros instead.
        """


class FastActionDecoder:
    """Decodes FAST tokens."""

    def __init__(self, words: PaligemmaTokenizer, fast: FastTokenizer) -> None:
        self._words = words
        self._fast = fast

    def decode(self, tokens: np.ndarray, horizon: int, action_dim: int) -> np.ndarray:
        """See :class:`ActionDecoder`."""
        try:
            return self._fast.decode(_through_text(self._words, tokens), horizon, action_dim)
        except ActionDecodeError:
            # openpi decodes to text and encodes it again, which can split tokens elsewhere than
            # the model did. Where that loses the chunk, the generated ids may still hold it.
            direct = _between_marks(self._words, tokens)
            if direct is None:
                raise
            try:
                return self._fast.decode(direct, horizon, action_dim)
            except ActionDecodeError:
                pass
            raise


class BinActionDecoder:
    """Decodes one token per number, in 256 bins over [-1, 1) (openpi's ``BinningTokenizer``)."""

    def __init__(self, words: PaligemmaTokenizer) -> None:
        self._words = words

    def decode(self, tokens: np.ndarray, horizon: int, action_dim: int) -> np.ndarray:
        """See :class:`ActionDecoder`."""
        bins = _through_text(self._words, tokens)
        if len(bins) < horizon * action_dim:
            raise ActionDecodeError(
                f"{len(bins)} action tokens, expected {horizon} steps x {action_dim} actions = "
                f"{horizon * action_dim}"
            )
        chunk = np.array(bins[: horizon * action_dim], np.float64)
        if chunk.min() < 0 or chunk.max() >= _BINS:
            raise ActionDecodeError(
                f"a token is bin {int(chunk.min() if chunk.min() < 0 else chunk.max())}, "
                f"expected 0 to {_BINS - 1}"
            )
        return (chunk / _BINS * 2.0 - 1.0).reshape(horizon, action_dim)


def action_decoder(
    config: InferenceConfig, checkpoint: Path, words: PaligemmaTokenizer
) -> ActionDecoder:
    """The decoder that a pi0-FAST config needs.

    Args:
        config: says how actions are written.
        checkpoint: may hold ``fast_tokenizer/``.
        words: PaliGemma's tokenizer.

    Raises:
        CheckpointError: there is no FAST tokenizer; lists the places that were searched.
    """
    if config.action_tokens == "bins":
        return BinActionDecoder(words)
    directory = find_fast_tokenizer(checkpoint, config.fast_tokenizer)
    return FastActionDecoder(words, FastTokenizer(directory))


def action_ids(fast_ids: Sequence[int], vocabulary: int) -> list[int]:
    """Ids of the language model for action tokens; the formula is its own inverse."""
    return [vocabulary - 1 - _SEGMENT_MARKS - i for i in fast_ids]


def _through_text(words: PaligemmaTokenizer, tokens: np.ndarray) -> list[int]:
    text = words.decode(np.asarray(tokens))
    if _OPENING not in text:
        raise ActionDecodeError(f"the model wrote no {_OPENING!r}, but {_shown(text)}")
    chunk = text.split(_OPENING, 1)[1].split(_CLOSING, 1)[0].strip()
    if not chunk:
        raise ActionDecodeError(f"the model wrote no action tokens, but {_shown(text)}")
    return action_ids(words.ids(chunk), words.vocabulary_size)


def _between_marks(words: PaligemmaTokenizer, tokens: np.ndarray) -> list[int] | None:
    """Action tokens between ``Action: `` and ``|``, by id; None where one of them is missing."""
    ids = [int(i) for i in tokens]
    ids = ids[: ids.index(EOS_ID)] if EOS_ID in ids else [i for i in ids if i != PAD_ID]
    opening, closing = words.ids(_OPENING), words.ids(_CLOSING)
    start = _find(ids, opening)
    if start is None:
        return None
    chunk = ids[start + len(opening) :]
    stop = _find(chunk, closing)
    return action_ids(chunk if stop is None else chunk[:stop], words.vocabulary_size)


def _find(ids: list[int], part: list[int]) -> int | None:
    return next((i for i in range(len(ids)) if ids[i : i + len(part)] == part), None)


def _shown(text: str) -> str:
    return repr(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
