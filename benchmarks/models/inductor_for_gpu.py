"""What PyTorch launches on a GPU that is not there.

A function is traced with tensors that have shapes and no data. Inductor lowers, fuses and schedules
it for the GPU's description, up to the Triton code that it would compile; what PyTorch gives to a
library (cuBLAS, attention) is a kernel, too. Nothing runs, and nothing needs CUDA.

It reaches into PyTorch's own parts, and so goes with the version that is locked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from gpu_hlo import Kernel, Product
from gpu_targets import Target
from torch import Tensor, nn
from torch._dynamo.device_interface import CudaInterface
from torch._inductor import compile_fx, ir
from torch._inductor.graph import GraphLowering
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.stateless import _reparametrize_module
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

_GPU = torch.device("cuda", 0)
_PRODUCTS = frozenset({"mm", "addmm", "bmm", "baddbmm"})
_ATTENTION = "scaled_dot_product"
_NOTHING_RUNS = frozenset({"empty", "empty_like", "empty_strided", "detach", "_unsafe_view"})


def launches(
    function: Callable[..., Any], given: Sequence[Any], target: Target
) -> tuple[Kernel, ...]:
    """The kernels of a function that is compiled for a GPU, in order.

    Args:
        function: of tensors, modules, and tuples of them.
        given: its arguments; the tensors are fake ones of the CPU.
        target: the GPU.

    Raises:
        RuntimeError: there was nothing to compile.
    """
    tensors = _tensors_in(given)

    def of_tensors(*traced: Tensor) -> Any:
        places = dict(zip(map(id, tensors), traced, strict=True))
        with ExitStack() as stack:
            return function(*(_traced(each, places, stack) for each in given))

    # the branches that compiled code takes
    compiling = mock.patch.object(torch.compiler, "is_compiling", return_value=True)
    with torch.no_grad(), compiling:
        graph = make_fx(of_tensors, tracing_mode="fake")(*tensors)
    try:
        with _pretended(target), torch.no_grad():
            compile_fx.compile_fx(graph, tensors, inner_compile=_generate)
    except _Generated as done:
        return done.kernels
    raise RuntimeError(f"Inductor generated nothing for {function}")


class EagerKernels(TorchDispatchMode):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """Notes what runs outside of compiled functions: an operation that is no view is a kernel.

    Attributes:
        kernels: so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.kernels: list[Kernel] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        results = _tensors_in(made)
        if func.is_view or name in _NOTHING_RUNS or not results:
            return made
        operands = _tensors_in((args, kwargs))
        written = sum(map(_bytes, results))
        # of a table some rows
        read = written if name == "embedding" else sum(map(_bytes, operands))
        done = 2 * results[0].numel() * operands[-1].shape[-2] if name in _PRODUCTS else 0
        self.kernels.append(_kernel(name, "eager", (read, written), done, results[0].dtype))
        return made


class _Generated(BaseException):  # Inductor wraps each Exception
    """Ends a compilation before its code would be loaded onto a GPU."""

    def __init__(self, kernels: tuple[Kernel, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.kernels = kernels


def _generate(graph: GraphModule, inputs: Sequence[Tensor], **options: Any) -> Any:
    passes, codegen = compile_fx._recursive_post_grad_passes, GraphLowering.codegen

    def move_behind(module: GraphModule, *more: Any, **named: Any) -> None:
        # these passes try operations out, which a GPU that is not there cannot
        passes(module, *more, **named)
        for node in module.graph.nodes:
            _move(node.meta.get("val"))
            if "device" in node.kwargs:
                node.kwargs = {**node.kwargs, "device": _GPU}
        _move(inputs)

    def read(lowering: GraphLowering) -> Any:
        codegen(lowering)
        raise _Generated(tuple(k for node in lowering.scheduler.nodes for k in _launched(node)))

    with (
        mock.patch.object(compile_fx, "_recursive_post_grad_passes", move_behind),
        mock.patch.object(GraphLowering, "codegen", read),
    ):
        return compile_fx.compile_fx_inner(graph, inputs, **options)


def _launched(node: Any) -> Iterator[Kernel]:
    """The kernel of a node of Inductor's schedule; none, if it launches none."""
    made, name = node.node, node.get_name()
    if isinstance(made, (ir.MultiOutput, ir.NopKernel)):
        return
    moved = node.get_read_buffer_sizes(), node.get_write_buffer_sizes()
    if not node.is_extern():
        yield _kernel(name, "triton", moved)
        return
    called = str(made.op_overload or made.python_kernel_name)
    dtype = made.inputs[0].get_dtype()
    if _ATTENTION not in called:
        yield _kernel(name, called, moved, node.estimate_flops() or 0, dtype)
        return
    sizes = [math.prod(map(int, each.get_size())) for each in made.inputs[:3]]
    query, slots = sizes[0], int(made.inputs[1].get_size()[-2])
    moved = dtype.itemsize * sum(sizes), dtype.itemsize * query
    yield _kernel(name, "attention", moved, 4 * query * slots, dtype)


def _kernel(
    name: str, kind: str, moved: tuple[int, int], done: int = 0, dtype: torch.dtype = torch.float32
) -> Kernel:
    """One that reads and writes so many bytes; its product has operands of ``dtype``."""
    of = "bf16" if dtype == torch.bfloat16 else "f32"
    products = (Product(of, of, "f32", int(done)),) if done else ()
    read, written = map(int, moved)
    return Kernel(name, kind, (), (), read, written, products)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.dtype.itemsize


def _tensors_in(given: Any) -> list[Tensor]:
    """The tensors of arguments, each once; of a module its parameters."""
    found: dict[int, Tensor] = {}
    for each in pytree.tree_leaves(given):
        of_each = each.parameters() if isinstance(each, nn.Module) else [each]
        found |= {id(tensor): tensor for tensor in of_each if isinstance(tensor, Tensor)}
    return list(found.values())


def _traced(given: Any, places: dict[int, Tensor], stack: ExitStack) -> Any:
    """An argument with traced tensors in place of its own, for as long as the stack lives."""

    def place(each: Any) -> Any:
        if isinstance(each, nn.Module):
            own = {name: places[id(parameter)] for name, parameter in each.named_parameters()}
            stack.enter_context(_reparametrize_module(each, own))
            return each
        return places[id(each)] if isinstance(each, Tensor) else each

    return pytree.tree_map(place, given)


def _move(value: Any) -> None:
    for each in pytree.tree_leaves(value):
        if isinstance(each, FakeTensor):
            each.fake_device = _GPU


class _Driver:
    """What Triton asks a driver before it generates code."""

    def __init__(self, target: Target) -> None:
        major, minor = target.capability
        self._target = GPUTarget("cuda", 10 * major + minor, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return _GPU

    def get_device_interface(self) -> Any:
        return torch.cuda


@contextmanager
def _pretended(target: Target) -> Iterator[None]:
    """Answers what Inductor and Triton ask about the GPU."""
    major, minor = target.capability
    described = SimpleNamespace(
        name=target.name,
        major=major,
        minor=minor,
        multi_processor_count=target.cores,
        total_memory=target.memory,
        warp_size=32,
        max_threads_per_block=1024,
        max_threads_per_multi_processor=target.threads,
        regs_per_multiprocessor=65536,
        shared_memory_per_multiprocessor=target.shared[0],
        shared_memory_per_block_optin=target.shared[1],
        shared_memory_per_block=49152,
        L2_cache_size=target.cache,
        gcnArchName="",
    )
    answers = {
        "is_available": True,
        "is_initialized": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_properties": described,
        "_get_device_properties": described,
        "get_device_capability": (major, minor),
        "get_rng_state": torch.zeros(16, dtype=torch.uint8),
        "_lazy_init": None,
        "set_device": None,
        "set_rng_state": None,
        "synchronize": None,
        "_exchange_device": 0,
        "_maybe_exchange_device": 0,
    }
    driver.set_active(_Driver(target))
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(
                mock.patch.object(torch.cuda, name, mock.Mock(return_value=answer), create=True)
            )
        for owner in (CudaInterface, CudaInterface.Worker):
            stack.enter_context(
                mock.patch.object(owner, "get_device_properties", return_value=described)
            )
        yield
