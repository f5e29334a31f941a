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
    """Cosines and sines of some positions, float32, each [B, T, 1, H / 2]."""

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
        mask: [B, 1, 1, slots up to the last token] bool, true where a slot may be seen.
    """

    cache: KeyValueCache
    rotation: Rotation
    start: int
    mask: Tensor | None


class Modulation(NamedTuple):
    """What the flow time does to one adaptive norm, each [D]: float32, gate in compute dtype."""

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
        self._write(functional.linear(h, weight), place)

    def attend(self, h: Tensor, place: Place) -> Tensor:
        """Write the normed tokens ``h`` [B, T, D] to their slots, and look at all slots up to them.

        Returns:
            [B, T, D].
        """
        batch, length, _ = h.shape
        query, key_value = self.qkv(h).split(
            [self.heads * self.head_width, 2 * self.key_heads * self.head_width], dim=-1
        )
        self._write(key_value, place)
        query = rotate(query.view(batch, length, self.heads, self.head_width), place.rotation)
        # All queries share one mask, so the heads of a group stand in line as more tokens of one
        # head: keys and values are then read once for the whole group.
        groups = self.heads // self.key_heads
        query = query.view(batch, length, self.key_heads, groups, self.head_width)
        query = query.permute(0, 2, 3, 1, 4).reshape(batch, self.key_heads, -1, self.head_width)
        keys, values = (slots[:, :, : place.start + length] for slots in place.cache)
        seen = functional.scaled_dot_product_attention(query, keys, values, attn_mask=place.mask)
        seen = seen.view(batch, self.key_heads, groups, length, self.head_width)
        return self.out(seen.permute(0, 3, 1, 2, 4).reshape(batch, length, -1))

    def feed_forward(self, h: Tensor) -> Tensor:
        """GeGLU of [B, T, D]."""
        gate, up = self.gate_up(h).chunk(2, dim=-1)
        return self.down(functional.gelu(gate, approximate="tanh") * up)

    def _write(self, key_value: Tensor, place: Place) -> None:
        batch, length, _ = key_value.shape
        key_value = key_value.view(batch, length, 2, self.key_heads, self.head_width)
        keys, values = (slots[:, :, place.start : place.start + length] for slots in place.cache)
        keys.copy_(rotate(key_value[:, :, 0], place.rotation).transpose(1, 2))
        values.copy_(key_value[:, :, 1].transpose(1, 2))


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
    x = x + layer.attend(modulated_norm(x, before), place) * before.gate
    return x + layer.feed_forward(modulated_norm(x, after)) * after.gate


def rms_norm(x: Tensor, scale: Tensor) -> Tensor:
    """RMS norm in float32, times one plus ``scale`` [D]; result in the dtype of ``x``."""
    return (_unit(x) * (1 + scale.float())).to(x.dtype)


def modulated_norm(x: Tensor, modulation: Modulation) -> Tensor:
    """RMS norm whose scale and shift come from the flow time."""
    return (_unit(x) * (1 + modulation.scale) + modulation.shift).to(x.dtype)


def rotation_of(positions: Tensor, head_width: int) -> Rotation:
    """RoPE's angles for positions [B, T]; the two halves of a head are the coordinates."""
    half = torch.arange(head_width // 2, dtype=torch.float32, device=positions.device)
    wavelengths = ROPE_MAX_WAVELENGTH ** (2.0 * half / head_width)
    angles = positions[:, :, None, None].float() / wavelengths
    return Rotation(angles.cos(), angles.sin())


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate [B, T, heads, H]; in float32, result in the dtype of ``x``."""
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = rotation
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return turned.to(x.dtype)


def _unit(x: Tensor) -> Tensor:
    wide = x.float()
    return wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + RMS_EPSILON)
