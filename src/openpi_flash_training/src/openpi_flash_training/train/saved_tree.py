"""A training state as openpi's trainer stores it, and back.

    params        {"params": tree}; every leaf's path ends in ``value``; no heads of extra losses
    train_state   step (updates done), opt_state (trained leaves only), and with a running mean the
                  parameters themselves, because ``params`` then holds the mean; heads of extra
                  losses, where there are some

Source: ``openpi/training/checkpoints.py``, which stores flax states: hence ``value``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openpi_flash_training.train.extra_losses import HEADS, without_heads
from openpi_flash_training.train.step import TrainState

Tree = dict[str, Any]
VALUE = "value"


def saved_params(state: TrainState) -> Tree:
    """The tree of the item ``params``."""
    served = state.params if state.ema is None else state.ema
    return {"params": _saved(without_heads(served))}


def saved_train_state(state: TrainState) -> Tree:
    """The tree of the item ``train_state``."""
    saved = {
        "step": state.step,
        "params": {} if state.ema is None else _saved(without_heads(state.params)),
        "model_def": None,
        "opt_state": _saved(state.opt_state),
        "ema_params": None,
    }
    heads = _heads(state)
    return {**saved, HEADS: _saved(heads)} if heads else saved


def loaded_state(params: Tree, train_state: Tree, like: TrainState) -> TrainState:
    """The inverse of the two; ``like`` tells where leaves are frozen."""
    heads = _loaded(train_state.get(HEADS), _heads(like))
    served, own = params["params"], train_state["params"]
    has_mean = like.ema is not None
    trained = _loaded(own if has_mean else served, without_heads(like.params))
    mean = _loaded(served, without_heads(like.ema)) if has_mean else None
    if heads:
        trained |= {HEADS: heads["params"]}
        mean = {**mean, HEADS: heads["ema"]} if mean is not None else None
    return TrainState(
        step=train_state["step"],
        params=trained,
        opt_state=_loaded(train_state["opt_state"], like.opt_state),
        ema=mean,
    )


def _heads(state: TrainState) -> Tree:
    """Heads of extra losses, themselves and their running mean; empty: there are none."""
    if HEADS not in state.params:
        return {}
    mean = {} if state.ema is None else {"ema": state.ema[HEADS]}
    return {"params": state.params[HEADS], **mean}


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
