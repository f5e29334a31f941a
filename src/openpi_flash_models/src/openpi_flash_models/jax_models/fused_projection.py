"""Matrix products of a few rows, with what is done before and behind them, as one kernel each.

A step's rows are so few that a product takes as long as its weights take to arrive, and a launch
about as long as that. So the norm in front, the activation, and the residual behind belong into
the product's own kernel. Written in Pallas for Triton; ``interpret`` runs the same code on a CPU.

The norm divides each row by one number, so the product can be taken before that number is known:

    norm(x) W = (x * (1 + scale)) W / rms(x) + shift W

Shapes: M rows, D width of the input, F width of the result.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from openpi_flash_models.jax_models.quantized import Quantized
from openpi_flash_models.jax_models.weights import struct

Weight = jax.Array | Quantized

RMS_EPSILON = 1e-6
MOST_ROWS = 64
"""Rows of a program; more of them are a product that XLA's own kernels are made for."""
COLUMNS, GATED_COLUMNS, INNER = 32, 32, 128
"""Columns of the result per program, and of the input at once."""


class Norm(NamedTuple):
    """An RMS norm, adaptive or not.

    Attributes:
        table: [R, 1 | M, D or 3 D]: scales; or scales, shifts and gates.
        row: [1] int32, which of them. The kernel finds it: a slice would be a copy, and a number
            in the kernel's text another kernel to compile for every layer.
    """

    table: jax.Array
    row: jax.Array

    def is_adaptive(self, width: int) -> bool:
        """Whether it has a shift and a gate."""
        return bool(self.table.shape[-1] == 3 * width)


def normed_product(
    x: jax.Array, norm: Norm, weight: Weight, *, gated: bool, interpret: bool = False
) -> jax.Array:
    """``norm(x) @ weight``.

    Args:
        x: [M, D].
        norm: of ``x``.
        weight: [D, F]; with ``gated`` [D, 2 F], gate and up.
        gated: whether the result is ``gelu(gate) * up``.
        interpret: on a CPU.

    Returns:
        [M, F] in the dtype of ``x``.
    """
    count, width = x.shape
    result = weight.shape[1] // 2 if gated else weight.shape[1]
    rows, columns = _rows(count), _block(result, GATED_COLUMNS if gated else COLUMNS)
    kernel = partial(
        _normed_kernel,
        rows=rows,
        columns=columns,
        inner=_block(width, INNER),
        gated=gated,
        adaptive=norm.is_adaptive(width),
    )
    return pl.pallas_call(
        kernel,
        out_shape=struct((count, result), x.dtype),
        grid=(pl.cdiv(count, rows), result // columns),
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=3),
        interpret=interpret,
        name="normed_gate_up" if gated else "normed_product",
    )(x, norm.table, norm.row, *_parts(weight))


def add_product(
    x: jax.Array, branch: jax.Array, weight: Weight, norm: Norm, *, interpret: bool = False
) -> jax.Array:
    """The residual: ``x + gate * (branch @ weight)``, without a gate if the norm has none.

    Args:
        x: [M, F].
        branch: [M, D].
        weight: [D, F].
        norm: of the branch, whose gate it is.
        interpret: on a CPU.
    """
    count, width = branch.shape
    result = weight.shape[1]
    # half of the columns: these products have the fewest, and want every core of the GPU
    rows, columns = _rows(count), _block(result, COLUMNS // 2)
    kernel = partial(
        _add_kernel,
        rows=rows,
        columns=columns,
        inner=_block(width, INNER),
        adaptive=norm.is_adaptive(result),
    )
    return pl.pallas_call(
        kernel,
        out_shape=struct((count, result), x.dtype),
        grid=(pl.cdiv(count, rows), result // columns),
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=4),
        interpret=interpret,
        name="add_product",
    )(x, branch, norm.table, norm.row, *_parts(weight))


def _normed_kernel(
    x: Any,
    table: Any,
    row_ref: Any,
    weight: Any,
    *scale_and_out: Any,
    rows: int,
    columns: int,
    inner: int,
    gated: bool,
    adaptive: bool,
) -> None:
    *scales, out = scale_and_out
    count, width = x.shape
    row = row_ref[0]
    first, column = pl.program_id(0) * rows, pl.program_id(1) * columns
    within = first + jnp.arange(rows) < count
    here = pl.ds(first, rows)
    starts = [column, column + out.shape[1]] if gated else [column]

    def add(j: jax.Array, carry: Any) -> Any:
        squares, *sums = carry
        there = pl.ds(j * inner, inner)
        mask = jnp.broadcast_to(within[:, None], (rows, inner))
        part = triton.load(x.at[here, there], mask=mask, other=0.0)
        wide = part.astype(jnp.float32)
        squares = squares + jnp.square(wide).sum(axis=1)
        scale = _of_rows(table, row, here, j * inner, within, count=inner)
        scaled = (wide * (1 + scale).astype(jnp.float32)).astype(x.dtype)
        shift = None
        if adaptive:
            shift = _of_rows(table, row, here, width + j * inner, within, count=inner).astype(
                x.dtype
            )
            shift = jnp.broadcast_to(shift, (rows, inner))
        for index, start in enumerate(starts):
            kernel = weight[there, pl.ds(start, columns)].astype(x.dtype)
            sums[2 * index] += triton.dot(scaled, kernel)
            if shift is not None:
                sums[2 * index + 1] += triton.dot(shift, kernel)
        return squares, *sums

    zeros = jnp.zeros((rows, columns), jnp.float32)
    start = (jnp.zeros(rows, jnp.float32), *(zeros for _ in starts for _ in range(2)))
    squares, *sums = jax.lax.fori_loop(0, width // inner, add, start)
    size = jnp.sqrt(squares / width + RMS_EPSILON)[:, None]
    results = []
    for index, place in enumerate(starts):
        total = _scaled(sums[2 * index] / size + sums[2 * index + 1], scales, place)
        results.append(total.astype(x.dtype).astype(jnp.float32))
    made = jax.nn.gelu(results[0], approximate=True) * results[1] if gated else results[0]
    mask = jnp.broadcast_to(within[:, None], (rows, columns))
    triton.store(out.at[here, pl.ds(column, columns)], made.astype(out.dtype), mask=mask)


def _add_kernel(
    x: Any,
    branch: Any,
    table: Any,
    row_ref: Any,
    weight: Any,
    *scale_and_out: Any,
    rows: int,
    columns: int,
    inner: int,
    adaptive: bool,
) -> None:
    *scales, out = scale_and_out
    count, width = branch.shape
    row = row_ref[0]
    first, column = pl.program_id(0) * rows, pl.program_id(1) * columns
    within = first + jnp.arange(rows) < count
    here, there = pl.ds(first, rows), pl.ds(column, columns)

    def add(j: jax.Array, total: jax.Array) -> jax.Array:
        block = pl.ds(j * inner, inner)
        mask = jnp.broadcast_to(within[:, None], (rows, inner))
        part = triton.load(branch.at[here, block], mask=mask, other=0.0)
        product: jax.Array = triton.dot(part, weight[block, there].astype(part.dtype))
        return total + product

    zeros = jnp.zeros((rows, columns), jnp.float32)
    summed: jax.Array = jax.lax.fori_loop(0, width // inner, add, zeros)
    total = _scaled(summed, scales, column).astype(x.dtype).astype(jnp.float32)
    if adaptive:
        gate = _of_rows(table, row, here, 2 * out.shape[1] + column, within, count=columns)
        total = total * gate.astype(jnp.float32)
    mask = jnp.broadcast_to(within[:, None], (rows, columns))
    old = triton.load(x.at[here, there], mask=mask, other=0.0).astype(jnp.float32)
    triton.store(out.at[here, there], (old + total).astype(out.dtype), mask=mask)


def _of_rows(
    table: Any, row: jax.Array, here: Any, start: Any, within: jax.Array, *, count: int
) -> jax.Array:
    """[1 | M, count] of a table's row, from a column on."""
    if table.shape[1] == 1:
        one: jax.Array = table[row, 0, pl.ds(start, count)]
        return one[None, :]
    mask = jnp.broadcast_to(within[None, :, None], (1, within.shape[0], count))
    place = table.at[pl.ds(row, 1), here, pl.ds(start, count)]
    each: jax.Array = triton.load(place, mask=mask, other=0)
    return each.reshape(within.shape[0], count)


def _parts(weight: Weight) -> tuple[jax.Array, ...]:
    """What a kernel is given of a weight: the matrix, and the scales [F] if it has some."""
    if isinstance(weight, Quantized):
        return weight.values, weight.scale[0]
    return (weight,)


def _scaled(total: jax.Array, scales: list[Any], start: Any) -> jax.Array:
    """Sums [M, columns] times the scales of their columns."""
    for scale in scales:
        total = total * scale[pl.ds(start, total.shape[1])][None, :]
    return total


def _rows(count: int) -> int:
    """Rows of a program: a power of two from 16 on."""
    return min(MOST_ROWS, max(16, 1 << (count - 1).bit_length()))


def _block(size: int, wanted: int) -> int:
    """The largest power of two that divides ``size``, at most ``wanted``."""
    return min(wanted, size & -size)
