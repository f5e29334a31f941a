"""Runs a flow model fast: compiled layers, and on a GPU the whole call in one CUDA graph.

``OPENPI_PYTORCH_COMPILE_MODE`` chooses, by torch's own names:

| value | layers | whole call |
|---|---|---|
| ``none`` | eager | eager |
| ``default`` | compiled | eager |
| ``reduce-overhead`` | compiled | one CUDA graph |
| ``max-autotune-no-cudagraphs`` | compiled, tuned | eager |
| ``max-autotune`` | compiled, tuned | one CUDA graph |

Unset is ``reduce-overhead`` on a GPU and ``none`` on a CPU. One layer of each kind is compiled, and
serves all layers: this takes seconds instead of minutes, and the graph removes the cost of
launching the layers one by one. A call with an unusual number of steps runs without a graph.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from openpi_flash_models.actions.rtc import DEFAULT_RTC, Method, RtcOptions
from openpi_flash_models.errors import InferenceConfigError
from openpi_flash_models.torch_models import gemma, siglip
from openpi_flash_models.torch_models.denoise import Pull, continue_actions, sample_actions
from openpi_flash_models.torch_models.flow import (
    FlowModel,
    LayerFunctions,
    Observation,
    Schedule,
)
from openpi_flash_models.torch_models.graphs import Capture, CudaCapture, GraphStore, Inputs

COMPILE_MODE_VARIABLE = "OPENPI_PYTORCH_COMPILE_MODE"
COMPILE_MODES = (
    "none",
    "default",
    "reduce-overhead",
    "max-autotune-no-cudagraphs",
    "max-autotune",
)
_GRAPHED = {"reduce-overhead", "max-autotune"}
_TUNED = {"max-autotune", "max-autotune-no-cudagraphs"}
# Programs of one kind of layer; more than there can be (three prompt lengths, three numbers of
# cameras, four batch sizes, up to three kinds of tokens), since torch fails beyond its limit.
_PROGRAMS_KEPT = 192


def compile_mode(device: torch.device, wanted: str | None = None) -> str:
    """The mode for a device: ``wanted``, else the environment's, else the device's default.

    Raises:
        InferenceConfigError: no such mode.
    """
    mode = wanted or os.environ.get(COMPILE_MODE_VARIABLE)
    if not mode:
        return "reduce-overhead" if device.type == "cuda" else "none"
    if mode not in COMPILE_MODES:
        raise InferenceConfigError(
            f"{COMPILE_MODE_VARIABLE}={mode}: expected one of {', '.join(COMPILE_MODES)}"
        )
    return mode


class Sampler:
    """Runs a flow model. Not thread-safe: one call at a time.

    Args:
        model: on its device.
        mode: one of ``COMPILE_MODES``; None is :func:`compile_mode`'s choice.
        rtc: how the previous chunk guides the new one.
        capture: makes graphs of calls; None: :class:`CudaCapture`, if device and mode have graphs.
    """

    def __init__(
        self,
        model: FlowModel,
        mode: str | None = None,
        rtc: RtcOptions = DEFAULT_RTC,
        capture: Capture | None = None,
    ) -> None:
        self.mode = compile_mode(model.device, mode)
        self._model = model
        self._rtc = rtc
        if capture is None and self.mode in _GRAPHED and model.device.type == "cuda":
            capture = CudaCapture(model.device)
        self._graphs = GraphStore(capture) if capture is not None else None
        # Compiled layers do not keep what a backward pass needs.
        if self.mode != "none" and rtc.method != "vjp":
            model.functions = _compiled_functions(self.mode)

    @property
    def prepares_rtc(self) -> bool:
        """Whether calls with a previous chunk have graphs or programs of their own."""
        return self._graphs is not None or self.mode != "none"

    def sample_actions(
        self,
        observation: Observation,
        noise: Tensor,
        num_steps: int = 10,
        pull: Pull | None = None,
        *,
        is_prefix: bool = False,
    ) -> Tensor:
        """Denoise a chunk.

        Args:
            observation: a batch, on the host or the device.
            noise: [B, H, A] float32.
            num_steps: denoising steps.
            pull: from the previous chunks; None without any.
            is_prefix: whether its frozen steps are known to the model, whatever the method of
                the options.

        Returns:
            Normalised actions [B, H, A] float32, on the device.
        """
        inputs = (*observation, noise, *(pull or ()))
        method = "prefix" if is_prefix else self._rtc.method
        call = partial(self._call, schedule=self._model.schedule(num_steps), method=method)
        # Inference mode saves a sixth of an eager call's work; compiled code and the backward
        # pass of vjp cannot take its tensors.
        eager = self.mode == "none" and (pull is None or method != "vjp")
        with torch.inference_mode() if eager else torch.no_grad():
            if self._graphs is not None:
                graph = self._graphs.find(call, inputs, num_steps, is_prefix=is_prefix)
                if graph is not None:
                    return graph.replay(inputs)
            return call(tuple(tensor.to(self._model.device) for tensor in inputs))

    def _call(self, inputs: Inputs, schedule: Schedule, method: Method) -> Tensor:
        """``inputs`` are an observation's, the noise, and perhaps a pull's, on the device."""
        count = len(Observation._fields)
        observation, noise, pull = Observation(*inputs[:count]), inputs[count], inputs[count + 1 :]
        if not pull:
            return sample_actions(self._model, observation, noise, schedule)
        return continue_actions(
            self._model,
            observation,
            noise,
            schedule,
            Pull(*pull),
            method=method,
            max_guidance=self._rtc.max_guidance,
        )


def _compiled_functions(mode: str) -> LayerFunctions:
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, _PROGRAMS_KEPT)
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, _PROGRAMS_KEPT)
    inner = "max-autotune-no-cudagraphs" if mode in _TUNED else "default"

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function, mode=inner, dynamic=False, fullgraph=True)

    return LayerFunctions(
        vision=compiled(siglip.run_block),
        read=compiled(gemma.read_layer),
        remember=compiled(gemma.remember_layer),
        modulated=compiled(gemma.modulated_layer),
    )
