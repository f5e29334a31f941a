"""Decides which calls run as a captured graph, and captures CUDA graphs.

A graph replays one call: a number of denoising steps over inputs of some shapes. A request may
choose the number of steps, and must neither start a capture while a robot waits nor take more GPU
memory. So calls with the usual number of steps are captured when they first occur, which is in the
warm-up: it makes one call of every shape. All others run without a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from openpi_flash_models.policy.model_protocols import DEFAULT_STEPS

# Every bucket of prompt lengths, cameras and batch sizes, with a previous chunk that guides, with
# one that is known, and without one.
GRAPHS_KEPT = 144
_RUNS_BEFORE_CAPTURE = 3

Inputs = tuple[Tensor, ...]
Call = Callable[[Inputs], Tensor]


class Graph(Protocol):
    """A captured call."""

    def replay(self, inputs: Inputs) -> Tensor:
        """Run it on inputs of the shapes that it was captured with."""


Capture = Callable[[Call, Inputs], Graph]
"""Makes a graph of a call; the inputs are examples."""


class GraphStore:
    """The graphs of one model. Decides which calls are captured; ``capture`` does it.

    Args:
        capture: makes a graph.
        steps: denoising steps of the calls that are captured.
        most: graphs that are kept.
    """

    def __init__(
        self, capture: Capture, steps: int = DEFAULT_STEPS, most: int = GRAPHS_KEPT
    ) -> None:
        self._capture = capture
        self._steps = steps
        self._most = most
        self._graphs: dict[Any, Graph] = {}

    def find(
        self, call: Call, inputs: Inputs, num_steps: int, *, is_prefix: bool = False
    ) -> Graph | None:
        """The graph for a call, perhaps captured now; None: the call runs without one."""
        if num_steps != self._steps:
            return None
        key = (is_prefix, *((tensor.shape, tensor.dtype) for tensor in inputs))
        graph = self._graphs.get(key)
        if graph is None and len(self._graphs) < self._most:
            graph = self._graphs[key] = self._capture(call, inputs)
        return graph


class CudaCapture:
    """Makes CUDA graphs that share their memory, since no two of them run at a time.

    Args:
        device: a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        # One for all: matrix products keep a workspace (32 MB on a H100) for every stream.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, call: Call, inputs: Inputs) -> Graph:
        """Run the call until all its set-up is done, then capture it."""
        with torch.cuda.device(self._device):
            return _CudaGraph(call, inputs, self._device, self._stream, self._pool)


class _CudaGraph:
    """One call as a CUDA graph: inputs are copied in, the output out."""

    def __init__(
        self, call: Call, inputs: Inputs, device: torch.device, stream: Any, pool: Any
    ) -> None:
        # The captured graph reads the schedule in place: the call keeps it from being freed when
        # the model drops it.
        self._call = call
        self._inputs = tuple(tensor.to(device, copy=True) for tensor in inputs)
        # Compilation and the libraries' own set-up must not be captured.
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_RUNS_BEFORE_CAPTURE):
                call(self._inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU meanwhile, such as a planner's warm-up.
        with torch.cuda.graph(
            self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"
        ):
            self._output = call(self._inputs)

    def replay(self, inputs: Inputs) -> Tensor:
        """See :class:`Graph`."""
        for slot, tensor in zip(self._inputs, inputs, strict=True):
            slot.copy_(tensor, non_blocking=True)
        self._graph.replay()
        return self._output.clone()
