"""Whether another model can take the place of one while robots are connected. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def contract_changes(former: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys of the metadata in which two models speak of different robots.

    A connected client was told the former's: it would send the wrong images and play the wrong
    numbers.
    """
    return [key for key in _CONTRACT if former.get(key) != other.get(key)]


_CONTRACT = (
    *("robot", "inputs", "image_specs", "actions", "action_names"),
    *("action_dim", "action_horizon", "action_rate_hz"),
)
