"""Gemma decoder layers for inference, one expert at a time.

The prefix (pictures and words) runs once through the language expert and leaves keys and values;
the actions run through the action expert in every denoising step and attend to them. Queries, keys
and values come from one matrix product, gate and up of the feed-forward from another.

Shapes: B batch, T tokens of this pass, S slots of the cache, D width, N query heads, K key heads,
H head width, F feed-forward width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

RMS_EPSILON = 1e-6
ROPE_MAX_WAVELENGTH = 10_000.0


class Rotation(NamedTuple):
    """What turns a head at some positions, float32, each [B, T, 1, H].

    The halves of a head are the coordinates: ``sin`` is negative for the first, since
    ``first' = first * cos - second * sin``.
    """

    cos: Tensor
    sin: Tensor


class KeyValueCache(NamedTuple):
    """Slots for the keys (after RoPE) and values of one layer, each [B, K, S, H].

    The tokens of a pass are written into their slots: no pass copies what earlier ones left.
    """

    keys: Tensor
    values: Tensor


class Place(NamedTuple):
    """Where the tokens of a pass stand in one layer.

    Attributes:
        cache: of the layer.
        rotation: of the tokens' positions.
        start: slot of the first token.
        bias: [B, 1, 1, slots up to the last token] in compute dtype, 0 where a slot may be seen,
            else minus infinity.
    """

    cache: KeyValueCache
    rotation: Rotation
    start: int
    bias: Tensor


class Modulation(NamedTuple):
    """What the flow time does to one adaptive norm, each [D]: float32, gate in compute dtype.

    ``scale`` is the factor itself, the one that the checkpoint leaves out is in it.
    """

    scale: Tensor
    shift: Tensor
    gate: Tensor


class Layer(nn.Module):
    """Attention and feed-forward of one expert."""

    def __init__(
        self, width: int, heads: int, key_heads: int, head_width: int, mlp: int, *, adaptive: bool
    ) -> None:
        super().__init__()
        self.heads, self.key_heads, self.head_width = heads, key_heads, head_width
        self.qkv = nn.Linear(width, (heads + 2 * key_heads) * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * mlp, bias=False)
        self.down = nn.Linear(mlp, width, bias=False)
        if not adaptive:
            self.pre_attention_norm = nn.Parameter(torch.zeros(width))
            self.pre_ffw_norm = nn.Parameter(torch.zeros(width))

    def remember(self, h: Tensor, place: Place) -> None:
        """Write keys and values of the normed tokens ``h`` [B, T, D] to their slots."""
        weight = self.qkv.weight[self.heads * self.head_width :]
        heads = functional.linear(h, weight)
        heads = heads.view(*h.shape[:2], -1, self.head_width)
        keys, values = torch.split(heads, self.key_heads, dim=2)
        _write(rotate(keys, place.rotation), values, place)

    def attend(self, h: Tensor, place: Place) -> Tensor:
        """Write the normed tokens ``h`` [B, T, D] to their slots, and look at all slots up to them.

        Returns:
            [B, T, D].
        """
        batch, length, _ = h.shape
        heads = self.qkv(h).view(batch, length, -1, self.head_width)
        turning, values = torch.split(heads, [self.heads + self.key_heads, self.key_heads], dim=2)
        turned = rotate(turning, place.rotation)
        query, keys = torch.split(turned, [self.heads, self.key_heads], dim=2)
        _write(keys, values, place)
        # All queries share one mask, so the heads of a group stand in line as more tokens of one
        # head: keys and values are then read once for the whole group.
        groups = self.heads // self.key_heads
        query = query.reshape(batch, length, self.key_heads, groups, self.head_width)
        query = query.permute(0, 2, 3, 1, 4)
        keys, values = (slots[:, :, : place.start + length] for slots in place.cache)
        seen = functional.scaled_dot_product_attention(
            query.flatten(2, 3), keys, values, attn_mask=place.bias
        )
        seen = seen.view(batch, self.key_heads, groups, length, self.head_width)
        seen = seen.permute(0, 3, 1, 2, 4)
        return self.out(seen.reshape(batch, length, -1))

    def feed_forward(self, h: Tensor) -> Tensor:
        """GeGLU of [B, T, D]."""
        gate, up = self.gate_up(h).chunk(2, dim=-1)
        return self.down(functional.gelu(gate, approximate="tanh") * up)


def read_layer(layer: Layer, x: Tensor, place: Place) -> Tensor:
    """One layer with plain norms over ``x`` [B, T, D]."""
    x = x + layer.attend(rms_norm(x, layer.pre_attention_norm), place)
    return x + layer.feed_forward(rms_norm(x, layer.pre_ffw_norm))


def remember_layer(layer: Layer, x: Tensor, place: Place) -> None:
    """The part of the last layer that later tokens need: its keys and values."""
    layer.remember(rms_norm(x, layer.pre_attention_norm), place)


def modulated_layer(
    layer: Layer, x: Tensor, place: Place, modulations: Sequence[Modulation]
) -> Tensor:
    """One layer with adaptive norms: of attention, then of the feed-forward."""
    before, after = modulations
    x = torch.addcmul(x, layer.attend(modulated_norm(x, before), place), before.gate)
    return torch.addcmul(x, layer.feed_forward(modulated_norm(x, after)), after.gate)


def rms_norm(x: Tensor, scale: Tensor) -> Tensor:
    """RMS norm in float32, times ``scale`` [D]; result in the dtype of ``x``.

    ``scale`` is the factor itself, one more than what the checkpoint has.
    """
    return functional.rms_norm(x.float(), scale.shape, scale, RMS_EPSILON).to(x.dtype)


def modulated_norm(x: Tensor, modulation: Modulation) -> Tensor:
    """RMS norm whose scale and shift come from the flow time."""
    unit = functional.rms_norm(x.float(), x.shape[-1:], None, RMS_EPSILON)
    return torch.addcmul(modulation.shift, unit, modulation.scale).to(x.dtype)


def rotation_of(positions: Tensor, head_width: int) -> Rotation:
    """RoPE's angles for positions [B, T]."""
    half = torch.arange(head_width // 2, dtype=torch.float32, device=positions.device)
    wavelengths = ROPE_MAX_WAVELENGTH ** (2.0 * half / head_width)
    angles = positions[:, :, None, None].float() / wavelengths
    cos, sin = angles.cos(), angles.sin()
    return Rotation(torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1))


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn [B, T, heads, H]; in float32, result in the dtype of ``x``."""
    wide = x.float()
    swapped = wide.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(wide * rotation.cos, swapped, rotation.sin).to(x.dtype)


def bias_of(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """What attention adds where ``seen`` (bool, any shape) is false."""
    bias = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return bias.masked_fill_(~seen, float("-inf"))


def _write(keys: Tensor, values: Tensor, place: Place) -> None:
    """Put keys and values [B, T, K, H] into their slots."""
    for new, slots in zip((keys, values), place.cache, strict=True):
        slots[:, :, place.start : place.start + new.shape[1]].copy_(new.transpose(1, 2))
