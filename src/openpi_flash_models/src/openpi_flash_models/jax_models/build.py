"""Builds JAX models of a checkpoint's tensors, and says what suits JAX's device."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import jax
import numpy as np

from openpi_flash_models.actions.rtc import RtcOptions
from openpi_flash_models.jax_models.compile_cache import use_compile_cache
from openpi_flash_models.jax_models.models import JaxActionModel, JaxTokenModel
from openpi_flash_models.model.precision import Quantization
from openpi_flash_models.model.rearrangements import ALL_ON, Rearrangements
from openpi_flash_models.model.shape import ModelShape


def device_name() -> str:
    """The kind of device that JAX computes on."""
    return jax.default_backend()


def best_dtype() -> str:
    """The data type that suits the device."""
    # CPUs multiply float32 faster than bfloat16, of which XLA makes float32 copies
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def graph_of_device() -> Rearrangements:
    """Every switch on, with the prompt lengths that suit the device."""
    if jax.default_backend() != "cpu":
        return ALL_ON
    # programs for a CPU are compiled at every start: fewer of them; its host is the device
    return ALL_ON.switched(
        token_buckets=ALL_ON.packing.token_buckets[:1], static_steps=False, fused_kernels=False
    )


def flow_model(
    tree: Mapping[str, Any],
    shape: ModelShape,
    graph: Rearrangements | None,
    rtc: RtcOptions,
    *,
    quantization: Quantization | None = None,
    source: Hashable = None,
) -> JaxActionModel:
    """pi0 or pi0.5; `graph` None is the device's."""
    use_compile_cache()
    return JaxActionModel(
        tree, shape, graph or graph_of_device(), rtc, quantization=quantization, source=source
    )


def token_model(
    tree: Mapping[str, Any],
    shape: ModelShape,
    graph: Rearrangements | None,
    *,
    quantization: Quantization | None = None,
    source: Hashable = None,
) -> JaxTokenModel:
    """pi0-FAST; `graph` None is the device's."""
    use_compile_cache()
    return JaxTokenModel(
        tree, shape, graph or graph_of_device(), quantization=quantization, source=source
    )


def planner_model(
    tree: Mapping[str, Any],
    shape: ModelShape,
    graph: Rearrangements | None,
    *,
    max_tokens: int,
    allowed: np.ndarray,
    block: int | None,
    quantization: Quantization | None = None,
    source: Hashable = None,
) -> JaxTokenModel:
    """A planner, which says words only; `graph` None is the device's."""
    use_compile_cache()
    return JaxTokenModel(
        tree,
        shape,
        graph or graph_of_device(),
        max_tokens=max_tokens,
        allowed=allowed,
        block=block,
        quantization=quantization,
        source=source,
    )
