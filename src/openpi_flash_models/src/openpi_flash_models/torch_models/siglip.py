"""SigLIP vision tower in PyTorch: images to tokens of the language model's width.

Source: SigLIP (arXiv 2303.15343).

Shapes: N images, P patches, W tower width, D language width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYER_NORM_EPSILON = 1e-6


class Block(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.up = nn.Linear(width, mlp)
        self.down = nn.Linear(mlp, width)


def run_block(block: Block, x: Tensor) -> Tensor:
    """One block over [N, P, W]."""
    count, patches, width = x.shape
    qkv = block.qkv(_norm(block.norm_attention, x)).view(count, patches, 3, block.heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    seen = functional.scaled_dot_product_attention(query, key, value)
    x = x + block.out(seen.transpose(1, 2).reshape(count, patches, width))
    hidden = functional.gelu(block.up(_norm(block.norm_mlp, x)), approximate="tanh")
    return x + block.down(hidden)


class VisionTower(nn.Module):
    """Patches, positions, blocks, and the projection to the language model."""

    def __init__(
        self, *, patch: int, patches: int, width: int, depth: int, heads: int, mlp: int, out: int
    ) -> None:
        super().__init__()
        self.patch = patch
        self.embedding = nn.Linear(patch * patch * 3, width)
        self.positions = nn.Parameter(torch.zeros(patches, width))
        self.blocks = nn.ModuleList(Block(width, heads, mlp) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.head = nn.Linear(width, out)

    def embed_patches(self, images: Tensor) -> Tensor:
        """[N, side, side, 3] uint8, or float32 in [-1, 1], to [N, P, W] in the tower's dtype."""
        x = _scaled(images)
        count, height, breadth, channels = x.shape
        side = self.patch
        x = x.view(count, height // side, side, breadth // side, side, channels)
        x = x.transpose(2, 3).reshape(count, -1, side * side * channels)
        # The patch product and the positions are in float32 for every dtype of the tower.
        return (self.embedding(x) + self.positions).to(self.head.weight.dtype)

    def forward(self, images: Tensor, run: Callable[..., Tensor] = run_block) -> Tensor:
        """[N, side, side, 3] to [N, P, D]; ``run`` is :func:`run_block`, perhaps compiled."""
        x = self.embed_patches(images)
        for block in self.blocks:
            x = run(block, x)
        return self.head(_norm(self.norm, x))


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    # Norm parameters stay in float32; so do the statistics.
    wide = functional.layer_norm(x.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return wide.to(x.dtype)


def _scaled(images: Tensor) -> Tensor:
    if images.dtype == torch.uint8:
        return images.float() / 255.0 * 2.0 - 1.0
    return images.float()
