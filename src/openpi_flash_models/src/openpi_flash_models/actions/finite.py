"""Refuses actions that are not finite."""

from __future__ import annotations

import numpy as np

from openpi_flash_models.errors import ModelOutputError


def refuse_not_finite(actions: np.ndarray) -> None:
    """Refuse a chunk [H, D] that holds infinity or NaN.

    Raises:
        ModelOutputError: names the first such number by step and dimension.
    """
    finite = np.isfinite(actions)
    if finite.all():
        return
    place = np.argwhere(~finite)[0].tolist()
    raise ModelOutputError(
        f"the model's actions are not finite: actions{place} is {actions[tuple(place)]}"
    )
