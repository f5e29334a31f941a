"""Actions that no robot may follow."""

from __future__ import annotations

import numpy as np

from openpi_flash_models.errors import ModelOutputError


def refuse_not_finite(actions: np.ndarray) -> None:
    """Refuse a chunk [H, D] with an infinite number or one that is none.

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
