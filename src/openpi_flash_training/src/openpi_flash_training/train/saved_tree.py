"""A training state as openpi's trainer stores it, and back.

    params        {"params": tree}; every leaf's path ends in ``value``
    train_state   step (updates done), opt_state (trained leaves only), and with a running mean the
                  parameters themselves, because ``params`` then holds the mean

Source: ``openpi/training/checkpoints.py``, which stores flax states: hence ``value``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openpi_flash_training.train.step import TrainState

Tree = dict[str, Any]
VALUE = "value"


def saved_params(state: TrainState) -> Tree:
    """The tree of the item ``params``."""
    return {"params": _saved(state.params if state.ema is None else state.ema)}


def saved_train_state(state: TrainState) -> Tree:
    """The tree of the item ``train_state``."""
    return {
        "step": state.step,
        "params": {} if state.ema is None else _saved(state.params),
        "model_def": None,
        "opt_state": _saved(state.opt_state),
        "ema_params": None,
    }


def loaded_state(params: Tree, train_state: Tree, like: TrainState) -> TrainState:
    """The inverse of the two; ``like`` tells where leaves are frozen."""
    first = _loaded(params["params"], like.params)
    own = train_state["params"]
    return TrainState(
        step=train_state["step"],
        params=first if like.ema is None else _loaded(own, like.params),
        opt_state=_loaded(train_state["opt_state"], like.opt_state),
        ema=None if like.ema is None else first,
    )


def _saved(tree: Any, inside: bool = False) -> Any:
    """Leaves of mappings as ``{"value": leaf}``, frozen leaves (None) and what is empty left out.

    Leaves outside of mappings, such as the optimiser's counts, stay as they are.
    """
    if isinstance(tree, Mapping):
        parts = {key: _saved(value, True) for key, value in tree.items()}
        return {key: part for key, part in parts.items() if part is not None} or None
    if isinstance(tree, tuple):
        made = [_saved(part) for part in tree]
        return type(tree)(*made) if hasattr(tree, "_fields") else tuple(made)
    return {VALUE: tree} if inside and tree is not None else tree


def _loaded(saved: Any, like: Any) -> Any:
    if isinstance(like, Mapping):
        there = saved or {}
        return {key: _loaded(there.get(key), value) for key, value in like.items()}
    if isinstance(like, tuple):
        made = [_loaded(part, other) for part, other in zip(saved, like, strict=True)]
        return type(like)(*made) if hasattr(like, "_fields") else tuple(made)
    return saved[VALUE] if isinstance(saved, Mapping) else saved
