"""Gemma decoder layers for inference, one expert at a time.

Sources: Gemma (arXiv 2403.08295), the two experts of pi0 (arXiv 2410.24164, section IV). The prefix
(images and prompt) runs once through the language expert and leaves keys and values; the actions
run through the action expert in every denoising step and attend to them. Queries, keys and values
come from one matrix product, gate and up of the feed-forward from another.

A small model on a CPU, and a large one on a GPU without a graph, spend their time on starting
operations. So tokens stay rows of one matrix throughout, kernels are stored in the layout of the
product, and heads are interleaved so that one complex product rotates them.

Shapes: B batch, T tokens of this pass, R rows (= B * T), S slots of the cache, D width, N query
heads, K key heads, H head width, F feed-forward width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

RMS_EPSILON = 1e-6
ROPE_MAX_WAVELENGTH = 10_000.0


class Place(NamedTuple):
    """The place of a pass's tokens in the cache of one layer.

    Attributes:
        cache: [B, S, 2 K, H], slots for the keys (after RoPE, interleaved) and then the values of
            the layer. The tokens of a pass are written into their slots; earlier slots are not
            copied.
        rotation: of the tokens' positions, see :func:`rotation_of`.
        start: slot of the first token.
        bias: [B, 1, 1, slots up to the last token] in compute dtype, 0 where a slot may be
            attended to, else minus infinity.
    """

    cache: Tensor
    rotation: Tensor
    start: int
    bias: Tensor


class Modulation(NamedTuple):
    """Scale, shift and gate of one adaptive norm, [D] or [R, D]: float32, gate in compute dtype.

    ``scale`` is a factor of :func:`norm_factor`.
    """

    scale: Tensor
    shift: Tensor
    gate: Tensor


class Layer(nn.Module):
    """Attention and feed-forward of one expert; kernels are [in, out]."""

    def __init__(
        self, width: int, heads: int, key_heads: int, head_width: int, mlp: int, *, adaptive: bool
    ) -> None:
        super().__init__()
        self.heads, self.key_heads, self.head_width = heads, key_heads, head_width
        self.qkv = _kernel(width, (heads + 2 * key_heads) * head_width)
        self.out = _kernel(heads * head_width, width)
        self.gate_up = _kernel(width, 2 * mlp)
        self.down = _kernel(mlp, width)
        if not adaptive:
            self.pre_attention_norm = nn.Parameter(torch.zeros(width))
            self.pre_ffw_norm = nn.Parameter(torch.zeros(width))

    def remember(self, h: Tensor, place: Place) -> None:
        """Write keys and values of the normed tokens ``h`` [R, D] to their slots."""
        kernel = self.qkv[:, self.heads * self.head_width :]
        rotation = place.rotation[:, :, self.heads :]
        _write(rotate(torch.mm(h, kernel), rotation), place)

    def attend(self, h: Tensor, place: Place) -> Tensor:
        """Write the normed tokens ``h`` [R, D] to their slots; attend to all slots up to them.

        Returns:
            [R, N * H], the heads' outputs.
        """
        turned = rotate(torch.mm(h, self.qkv), place.rotation)
        query, new = torch.split(turned, [self.heads, 2 * self.key_heads], dim=2)
        _write(new, place)
        slots = _slots(place.cache, 0, place.start + query.shape[1]).transpose(1, 2)
        keys, values = torch.split(slots, self.key_heads, dim=1)
        return self._look(query, keys, values, place.bias).view(len(h), -1)

    def _look(self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        # All queries share one mask, so the heads of a group become further tokens of one head:
        # keys and values are then read once for the whole group.
        batch, length, heads, head_width = query.shape
        if self.key_heads == 1:
            line = query.reshape(batch, 1, length * heads, head_width)
            return functional.scaled_dot_product_attention(line, keys, values, attn_mask=bias)
        apart = query.view(batch, length, self.key_heads, -1, head_width).transpose(1, 2)
        seen = functional.scaled_dot_product_attention(
            apart.flatten(2, 3), keys, values, attn_mask=bias
        )
        return seen.view(apart.shape).transpose(1, 2).reshape(query.shape)

    def gated(self, h: Tensor) -> Tensor:
        """The inner half of GeGLU: [R, D] to [R, F]."""
        gate, up = torch.mm(h, self.gate_up).chunk(2, dim=-1)
        return functional.gelu(gate, approximate="tanh").mul_(up)


def read_layer(layer: Layer, x: Tensor, place: Place) -> Tensor:
    """One layer with plain norms over ``x`` [R, D]."""
    seen = layer.attend(rms_norm(x, layer.pre_attention_norm), place)
    x = torch.addmm(x, seen, layer.out)
    return torch.addmm(x, layer.gated(rms_norm(x, layer.pre_ffw_norm)), layer.down)


def remember_layer(layer: Layer, x: Tensor, place: Place) -> None:
    """The part of the last layer that later tokens need: its keys and values."""
    layer.remember(rms_norm(x, layer.pre_attention_norm), place)


def modulated_layer(
    layer: Layer, x: Tensor, place: Place, modulations: Sequence[Modulation]
) -> Tensor:
    """One layer with adaptive norms: of attention, then of the feed-forward."""
    before, after = modulations
    seen = layer.attend(modulated_norm(x, before), place)
    x = torch.addcmul(x, torch.mm(seen, layer.out), before.gate)
    inner = layer.gated(modulated_norm(x, after))
    return torch.addcmul(x, torch.mm(inner, layer.down), after.gate)


def norm_factor(scale: Tensor) -> Tensor:
    """The factor on the unit vector for an RMS norm with a checkpoint's ``scale`` [..., D]."""
    return (1 + scale) * scale.shape[-1] ** 0.5


def interleaved(head_width: int) -> Tensor:
    """The order of a head's coordinates: pairs that RoPE rotates together are neighbours."""
    return torch.arange(head_width).view(2, -1).t().flatten()


def rms_norm(x: Tensor, factor: Tensor) -> Tensor:
    """RMS norm of [..., D] in float32, times a :func:`norm_factor`; in the dtype of ``x``."""
    return _as_dtype(_unit(x) * factor, x.dtype)


def modulated_norm(x: Tensor, modulation: Modulation) -> Tensor:
    """RMS norm whose scale and shift come from the flow time."""
    return _as_dtype(torch.addcmul(modulation.shift, _unit(x), modulation.scale), x.dtype)


def rotation_of(positions: Tensor, heads: int, key_heads: int, head_width: int) -> Tensor:
    """RoPE (arXiv 2104.09864) at positions [B, T] for all heads of a token side by side.

    Returns:
        [B, T, N + 2 K, H/2, 2] float32, cosines and sines: queries and keys are rotated, values
        are left as they are.
    """
    half = torch.arange(head_width // 2, dtype=torch.float32, device=positions.device)
    wavelengths = ROPE_MAX_WAVELENGTH ** (2.0 * half / head_width)
    angles = positions[:, :, None, None].float() / wavelengths
    turning = torch.stack([angles.cos(), angles.sin()], dim=-1)
    turning = turning.expand(-1, -1, heads + key_heads, -1, -1)
    resting = torch.zeros_like(turning[:, :, :key_heads])
    resting.select(-1, 0).fill_(1)
    return torch.cat([turning, resting], dim=2)


def rotate(rows: Tensor, rotation: Tensor) -> Tensor:
    """Rotate interleaved heads [R, heads * H], in float32: [B, T, heads, H] in their own dtype."""
    pairs = _wide(rows).view(rotation.shape)
    batch, length, heads, half, _ = rotation.shape
    if torch.compiler.is_compiling():  # it has no complex products
        (first, second), (cos, sin) = pairs.unbind(-1), rotation.unbind(-1)
        turned = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rotation))
    return _as_dtype(turned, rows.dtype).view(batch, length, heads, 2 * half)


def bias_of(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """The bias of attention: 0 where ``seen`` (bool, any shape) is true, else minus infinity."""
    bias = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return bias.masked_fill_(~seen, float("-inf"))


def _kernel(width: int, out: int) -> nn.Parameter:
    # An output's weights are contiguous, as in PyTorch's checkpoints: libraries are tuned for it.
    return nn.Parameter(torch.zeros(out, width).t())


def _unit(x: Tensor) -> Tensor:
    """[..., D] divided by its length, float32."""
    wide = _wide(x)
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    width = wide.shape[-1]
    if torch.compiler.is_compiling() or not wide.is_cpu:
        return wide * (length.square() + width * RMS_EPSILON).rsqrt()
    return wide / torch.hypot(length, _least_length(width))


@cache
def _least_length(width: int) -> Tensor:
    # As a tensor of the right type: a Python number is converted in every operation.
    with torch.inference_mode(mode=False):
        return torch.tensor((width * RMS_EPSILON) ** 0.5, dtype=torch.float32, device="cpu")


def _wide(x: Tensor) -> Tensor:
    return _as_dtype(x, torch.float32)


def _as_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    # A check costs less than a conversion that does nothing.
    return x if x.dtype == dtype else x.to(dtype)


def _slots(cache: Tensor, start: int, end: int) -> Tensor:
    whole = start == 0 and end == cache.shape[1]
    return cache if whole else cache[:, start:end]


def _write(new: Tensor, place: Place) -> None:
    """Put keys and values [B, T, 2 K, H] into their slots."""
    _slots(place.cache, place.start, place.start + new.shape[1]).copy_(new)
