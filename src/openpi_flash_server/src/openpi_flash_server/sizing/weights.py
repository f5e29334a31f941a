"""What the released models take of a GPU's memory, by their tensors. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Weights:
    """The parameters of a model, in billions.

    Attributes:
        low: those that are bfloat16 on a GPU.
        full: those that stay float32 there, or bfloat16 beside weights of eight bits.
    """

    low: float
    full: float = 0.0

    def gigabytes(self, dtype: str) -> float:
        """Their size in GB with `dtype` `bfloat16`, `float32`, `float8` or `int8`."""
        if dtype in ("float8", "int8"):
            return self.low + self.full * 2
        return self.low * (2 if dtype == "bfloat16" else 4) + self.full * 4


MODELS = {
    "pi0": Weights(3.24),
    # the layers that make norms of the flow's time stay float32
    "pi05": Weights(3.23, 0.12),
    "pi0-fast": Weights(2.92),
}
"""PaliGemma 2B (18 layers of 2048 with an MLP of 16384, an embedding of 257,152) and SigLIP So400m
are 2.92 billion; the action expert (18 layers of 1024 with an MLP of 4096) is 0.31."""

PLANNER = Weights(2.92)
"""The planner is PaliGemma without the action expert."""

WORKING_GB = 2.0
"""GB for CUDA's context, activations and compiled programs: an allowance, not a measurement."""
