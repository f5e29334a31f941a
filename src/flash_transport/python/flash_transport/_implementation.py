"""Chooses the compiled half, `_native`, or `pure` if that is missing."""

from __future__ import annotations

import importlib
import os
from typing import Literal

__all__ = ["PURE_REASON", "implementation"]

VARIABLE = "FLASH_TRANSPORT_IMPLEMENTATION"
"""`pure`: do not load the compiled half; `native`: fail if it is missing."""


def _choose() -> tuple[Literal["native", "pure"], str]:
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "pure":
        return "pure", f"{VARIABLE} is set to pure"
    if wanted not in ("", "native"):
        raise ValueError(f"{VARIABLE} is {wanted!r}, expected native or pure")
    try:
        importlib.import_module("flash_transport._native")
    except ImportError as error:
        if wanted == "native":
            raise
        return "pure", str(error)
    return "native", ""


implementation, PURE_REASON = _choose()
