"""Chooses whether JAX or PyTorch runs a checkpoint."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal, get_args

from openpi_flash_models.checkpoints.layout import find_layout
from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.model.precision import QUANTIZATIONS
from openpi_flash_models.model.shape import MODEL_NAMES, ModelKind

Framework = Literal["jax", "pytorch"]
FrameworkChoice = Literal["auto", "jax", "pytorch"]


def choose_framework(wanted: FrameworkChoice, checkpoint: Path, kind: ModelKind) -> Framework:
    """The framework for a checkpoint. Each reads both layouts.

    Args:
        wanted: ``auto`` is openpi's rule, PyTorch for ``model.safetensors`` and JAX for
            ``params/``, as far as PyTorch is installed and has the model.
        checkpoint: a directory.
        kind: of its model; pi0-FAST is in JAX only.

    Raises:
        InferenceConfigError: PyTorch is wanted, and is not installed or has no such model.
        CheckpointError: the directory holds no checkpoint.
    """
    if wanted not in get_args(FrameworkChoice):
        known = ", ".join(get_args(FrameworkChoice))
        raise InferenceConfigError(f"no framework named {wanted!r}, known: {known}")
    if wanted == "jax":
        return "jax"
    installed = importlib.util.find_spec("torch") is not None
    if wanted == "pytorch":
        if kind == "pi0_fast":
            raise InferenceConfigError(
                f"{MODEL_NAMES[kind]} runs in JAX only: framework has to be jax"
            )
        if not installed:
            raise InferenceConfigError(
                'framework is pytorch, and PyTorch is not installed: pip install "torch>=2.7"'
            )
        return "pytorch"
    in_torch_files = find_layout(checkpoint) == "safetensors"
    return "pytorch" if in_torch_files and installed and kind != "pi0_fast" else "jax"


def refuse_dtype(framework: Framework, dtype: str | None, checkpoint: Path) -> None:
    """Refuse weights of eight bits in PyTorch.

    Raises:
        InferenceConfigError: they are wanted there.
    """
    if framework == "pytorch" and dtype in QUANTIZATIONS:
        raise InferenceConfigError(
            f"dtype: {dtype} is for JAX only, {checkpoint} runs in PyTorch; set framework to jax, "
            "or dtype to bfloat16"
        )
