"""Which calls run as a captured graph, and the CUDA graph itself.

A graph replays one call: so many denoising steps over inputs of these shapes. Requests choose some
of that, so what they may choose freely must neither capture anything while a robot waits nor hold
a GPU's memory. Calls with the ordinary number of steps are captured the first time that they are
seen, which is during the warm-up: that makes one of every shape. All others run without a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from openpi_flash_models.policy.model_protocols import DEFAULT_STEPS

# Every bucket of prompt lengths, cameras and batch sizes, with and without an earlier chunk.
GRAPHS_KEPT = 96
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
    """The graphs of one model. Decides, and leaves the capturing to others.

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

    def find(self, call: Call, inputs: Inputs, num_steps: int) -> Graph | None:
        """The graph for a call, perhaps captured now; None: it has to run without one."""
        if num_steps != self._steps:
            return None
        key = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
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
        """Run the call until everything of it is set up, then capture it."""
        with torch.cuda.device(self._device):
            return _CudaGraph(call, inputs, self._device, self._stream, self._pool)


class _CudaGraph:
    """One call as a CUDA graph: inputs are copied in, the output out."""

    def __init__(
        self, call: Call, inputs: Inputs, device: torch.device, stream: Any, pool: Any
    ) -> None:
        # The captured graph reads the schedule where it lies: the call keeps it from being freed
        # when the model forgets it.
        self._call = call
        self._inputs = tuple(tensor.to(device, copy=True) for tensor in inputs)
        # Compilation and the libraries' own set-up must not be captured.
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_RUNS_BEFORE_CAPTURE):
                call(self._inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads, such as a planner's that warms up, may do with the GPU what they like.
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
