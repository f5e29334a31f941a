"""How long a program would take on a GPU, from what its kernels move and compute.

A roofline: each kernel takes as long as its launch, its bytes or its operations, whichever is
longest, and kernels follow each other. What it cannot know: how well a kernel keeps the GPU busy.
Of the fused kernels the number of programs is known, so that those with fewer programs than the
GPU has cores get their share of it only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gpu_hlo import Array, Block, Custom, Kernel
from gpu_targets import CACHE_FACTOR, LAUNCH_S, Target


@dataclass(frozen=True)
class Totals:
    """A part of a call.

    Attributes:
        kernels: launches.
        bytes: read and written.
        operations: of matrix products.
        seconds: estimated.
    """

    kernels: int = 0
    bytes: int = 0
    operations: int = 0
    seconds: float = 0.0

    def times(self, count: int) -> Totals:
        """So many of them."""
        return Totals(
            count * self.kernels, count * self.bytes, count * self.operations, count * self.seconds
        )

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.kernels + other.kernels,
            self.bytes + other.bytes,
            self.operations + other.operations,
            self.seconds + other.seconds,
        )


def kernel_seconds(kernel: Kernel, target: Target) -> float:
    """What one kernel takes."""
    share = 1.0 if kernel.programs is None else min(1.0, kernel.programs / target.cores)
    moved = kernel.bytes / (target.bandwidth * min(1.0, 2 * share))
    cached = kernel.cached / (CACHE_FACTOR * target.bandwidth * share)
    return max(LAUNCH_S, moved, cached, kernel.operations / (target.rate * share))


def totals(block: Block, target: Target, unknown: Sequence[int] = ()) -> Totals:
    """A whole program; ``unknown`` as ``Block.turns`` takes it."""
    made = Totals()
    for kernel, count in block.turns(unknown):
        one = Totals(1, kernel.bytes, kernel.operations, kernel_seconds(kernel, target))
        made += one.times(count)
    return made


def alone(block: Block, target: Target) -> Totals:
    """The kernels of a block without its loops."""
    return totals(Block(block.kernels), target)


def floor_seconds(weight_bytes: int, operations: int, target: Target) -> float:
    """What no arrangement of kernels could be faster than: weights once, or all products."""
    return max(weight_bytes / target.bandwidth, operations / target.rate)


def fused_kernel(
    attributes: str, operands: Sequence[Array], results: Sequence[Array]
) -> Custom | None:
    """What a fused kernel of ``jax_models`` computes; None: it is another custom call."""
    found = re.search(r'op_name="[^"]*?/(\w+)/pallas_call', attributes)
    if not found:
        return None
    grid = [int(size) for size in re.findall(r"grid_[xyz] = (\d+)", attributes)[:3]]
    programs = 1
    for size in grid:
        programs *= size
    name, first = found[1], operands[0]
    if name == "attend_images":
        images, patches, _, heads, width = first.shape
        done = 4 * images * heads * patches * patches * width
        keys = 2 * patches * width * 2
        return Custom(name, (first.dtype,) * 2, done, programs * keys, programs)
    if name in ("attend", "rotate_and_attend"):
        batch, length, heads, width = results[0].shape[-4:]
        groups = [array.shape[1] for array in operands if array.dtype == "s8"]
        seen = sum(groups) + (length if name == "rotate_and_attend" else 0)
        done = 4 * batch * length * heads * seen * width
        row_programs = grid[0] * grid[1]
        return Custom(name, (first.dtype,) * 2, done, row_programs * seen * width * 4, programs)
    # products: the rows come to every program anew
    rows, inner = (operands[1] if name == "add_product" else first).shape
    weight = next(a for a in operands if len(a.shape) == 2 and a.shape[0] == inner and a != first)
    done = 2 * rows * weight.shape[0] * weight.shape[1]
    # weights of eight bits are converted in the kernel
    return Custom(name, (first.dtype,) * 2, done, programs * rows * inner * 2, programs)
