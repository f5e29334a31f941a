"""The data types that a model computes in and keeps its weights in. Needs no model framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Quantization = Literal["float8", "int8"]
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)


@dataclass(frozen=True)
class Precision:
    """What a ``dtype`` of the configuration means on a device.

    Attributes:
        compute: ``bfloat16`` or ``float32``, in which layers compute.
        weights: eight-bit type of the layers' matrices and the embedding; None: as ``compute``.
    """

    compute: str
    weights: Quantization | None = None


def precision_of(dtype: str | None, best: str) -> Precision:
    """The precision of a ``dtype``.

    Args:
        dtype: ``bfloat16``, ``float32``, ``float8`` or ``int8``; None is the device's.
        best: the data type that suits the device.
    """
    for quantization in QUANTIZATIONS:
        if dtype == quantization:
            return Precision(best, quantization)
    return Precision(dtype or best)
