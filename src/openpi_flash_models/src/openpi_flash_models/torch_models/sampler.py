"""A flow model made fast: compiled layers, and on a GPU the whole call in one CUDA graph.

``OPENPI_PYTORCH_COMPILE_MODE`` chooses, by torch's own names:

| value | layers | whole call |
|---|---|---|
| ``none`` | eager | eager |
| ``default`` | compiled | eager |
| ``reduce-overhead`` | compiled | one CUDA graph |
| ``max-autotune-no-cudagraphs`` | compiled, tuned | eager |
| ``max-autotune`` | compiled, tuned | one CUDA graph |

Unset is ``reduce-overhead`` on a GPU and ``none`` on a CPU. What is compiled is one layer of each
kind, which serves all layers: seconds instead of minutes, and the graph removes what it costs to
launch them one by one. A call with an unusual number of steps runs without a graph.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from openpi_flash_models.actions.rtc import DEFAULT_RTC, RtcOptions
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
# Of one kind of layer, more than there can be: one for each of three prompt lengths, three numbers
# of cameras and four batch sizes, and that for up to three kinds of tokens. One too many is an
# error of torch.
_PROGRAMS_KEPT = 192


def compile_mode(device: torch.device, wanted: str | None = None) -> str:
    """The mode for a device: as wanted, else as the environment says, else the device's own.

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
    """Runs a flow model. Calls have to come one at a time.

    Args:
        model: on its device.
        mode: one of ``COMPILE_MODES``; None is :func:`compile_mode`'s choice.
        rtc: how an earlier chunk has its say.
        capture: makes graphs of calls; None is a GPU's, where the mode wants them.
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
        # What is compiled does not keep what a way back through the model needs.
        if self.mode != "none" and rtc.method != "vjp":
            model.functions = _compiled_functions(self.mode)

    @property
    def prepares_rtc(self) -> bool:
        """Whether calls with an earlier chunk have graphs or programs of their own."""
        return self._graphs is not None or self.mode != "none"

    def sample_actions(
        self,
        observation: Observation,
        noise: Tensor,
        num_steps: int = 10,
        pull: Pull | None = None,
    ) -> Tensor:
        """Denoise a chunk.

        Args:
            observation: a batch, on the host or the device.
            noise: [B, H, A] float32.
            num_steps: denoising steps.
            pull: from the chunks that are being played, if there are any.

        Returns:
            Normalised actions [B, H, A] float32, on the device.
        """
        inputs = (*observation, noise, *(pull or ()))
        call = partial(self._call, schedule=self._model.schedule(num_steps))
        # Tensors that never see a gradient spare a sixth of an eager call's work; what is
        # compiled, or turns back through the model, cannot take them.
        eager = self.mode == "none" and (pull is None or self._rtc.method != "vjp")
        with torch.inference_mode() if eager else torch.no_grad():
            if self._graphs is not None:
                graph = self._graphs.find(call, inputs, num_steps)
                if graph is not None:
                    return graph.replay(inputs)
            return call(tuple(tensor.to(self._model.device) for tensor in inputs))

    def _call(self, inputs: Inputs, schedule: Schedule) -> Tensor:
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
            method=self._rtc.method,
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
