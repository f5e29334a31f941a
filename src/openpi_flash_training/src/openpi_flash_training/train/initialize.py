"""Random parameters of a model of any size, with openpi's distributions."""

from __future__ import annotations

from typing import Any

import jax

from openpi_flash_models.model.shape import ModelShape


def init_params(shape: ModelShape, key: jax.Array) -> dict[str, Any]:
    """Parameters of a new model: openpi's nested tree without ``params``, float32.

    Each leaf is drawn from a key of its own name, so that a leaf does not depend on which others
    there are. Works under ``jax.eval_shape`` and ``jax.jit``.

    Args:
        shape: of the model.
        key: of the run.
    """
    raise NotImplementedError
