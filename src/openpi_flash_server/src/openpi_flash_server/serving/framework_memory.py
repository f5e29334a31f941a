"""Lets JAX and PyTorch share one GPU's memory. Pure: modules and environment are passed in."""

from __future__ import annotations

from collections.abc import Container, MutableMapping

JAX_BESIDE_PYTORCH = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5",
}
"""JAX takes what it needs, up to half of the memory. By default it takes three quarters at its
start, and PyTorch's model and CUDA graphs have to fit into the rest."""


def leave_memory_to_pytorch(modules: Container[str], environment: MutableMapping[str, str]) -> None:
    """Limits JAX's part of the GPU if PyTorch is in use; call it before JAX uses the GPU.

    What the operator has set stays.

    Args:
        modules: names of the imported modules.
        environment: of the process; JAX reads it when it first uses the GPU.
    """
    if "torch" not in modules:
        return
    for name, value in JAX_BESIDE_PYTORCH.items():
        environment.setdefault(name, value)
