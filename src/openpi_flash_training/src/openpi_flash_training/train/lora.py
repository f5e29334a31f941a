"""Low-rank adapters (LoRA, arXiv 2106.09685) as openpi trains them, and which leaves are trained.

The rules are those of openpi's ``models/lora.py`` and ``get_freeze_filter``:

    trained   all adapters, the vision tower, the heads; the expert that has no adapters
    frozen    every other leaf under ``llm`` of an expert with adapters: weights, norms, and for
              the language expert the embedding; kept in bfloat16
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Adapters:
    """The adapters of one expert.

    Attributes:
        rank: inner width.
        alpha: the attention's adapters are scaled by ``alpha / rank``; those of the feed-forward
            layers are not scaled.
        rank_stabilised: scale by ``alpha / sqrt(rank)`` instead (arXiv 2312.03732).
    """

    rank: int
    alpha: float
    rank_stabilised: bool = False

    @property
    def scale(self) -> float:
        """The factor of the attention's adapters."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilised else self.rank)


@dataclass(frozen=True)
class LoraSettings:
    """Which experts have adapters; None: that expert is trained as a whole."""

    language: Adapters | None = Adapters(16, 16.0)
    expert: Adapters | None = Adapters(32, 32.0)


def add_adapters(params: Params, lora: LoraSettings, key: jax.Array) -> dict[str, Any]:
    """The parameters with new adapters, both halves from N(0, 0.01) as in openpi."""
    raise NotImplementedError


def trainable(params: Params, lora: LoraSettings | None) -> dict[str, Any]:
    """A tree like ``params`` of bools: which leaves are trained; None: all.

    ``params`` may be abstract; they hold the adapters.
    """
    raise NotImplementedError


def split(params: Params, mask: Params) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trained and frozen leaves as two trees like ``params``, None in the other's places.

    Differentiate by the first: ``jax.grad(lambda trained: loss(join(trained, frozen), ...))``.
    """
    raise NotImplementedError


def join(trained: Params, frozen: Params) -> dict[str, Any]:
    """The inverse of :func:`split`."""
    raise NotImplementedError


def narrow_frozen(params: Params, mask: Params) -> dict[str, Any]:
    """Frozen leaves in bfloat16, as openpi trains with; the others unchanged."""
    raise NotImplementedError
