"""Fills a torch model from the tree that every checkpoint reader returns.

The tree is openpi's JAX one: layers stacked on the first axis, kernels [in, out]. Leaves that are
still in their file are read one at a time, and layer by layer where the file stores layers apart.
Leaves that need the largest reads come first, while most of the model's memory has not been
touched: so the peak is hardly more than the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import ml_dtypes
import numpy as np
import torch
from torch import Tensor, nn

from openpi_flash_models.checkpoints.leaves import LazyLeaf, LeafPath
from openpi_flash_models.model.shape import ModelShape
from openpi_flash_models.torch_models import gemma
from openpi_flash_models.torch_models.flow import FlowModel
from openpi_flash_models.torch_models.siglip import Block, VisionTower

Tree = Mapping[str, Any]


def build_flow_model(
    tree: Tree,
    shape: ModelShape,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> FlowModel:
    """Make pi0 or pi0.5 from a checkpoint's tensors.

    Args:
        tree: a checked tree of either model; leaves are numpy arrays of any float type, or still
            in their file.
        shape: its kind and sizes.
        dtype: of the towers. Norms, the patch product and the projections of actions, state and
            time stay in float32.
        device: for the model.

    Returns:
        The model with every parameter written; none is trainable.
    """
    model = empty_flow_model(shape, dtype=dtype, device=device)
    leaves = dict(_leaves(tree))
    writes = {write.path: write for write in _writes(model)}
    filler = _Filler()
    for path in sorted(writes, key=lambda path: -_piece(leaves[path], writes[path])):
        writes[path].into(filler, _read(leaves[path], writes[path]))
    filler.check(model)
    return model.eval()


def empty_flow_model(
    shape: ModelShape, *, dtype: torch.dtype, device: str | torch.device
) -> FlowModel:
    """A model as :func:`build_flow_model` makes it, whose parameters hold anything."""
    with torch.device("meta"):
        model = FlowModel(shape)
    # Empty memory of the final dtype: nothing is allocated twice.
    for module, name, parameter in _parameters(model):
        wide = _stays_wide(model, module, name)
        empty = torch.empty_like(parameter, dtype=torch.float32 if wide else dtype, device=device)
        setattr(module, name, nn.Parameter(empty, requires_grad=False))
    return model


class _Filler:
    """Writes arrays into parameters, and counts what was written."""

    def __init__(self) -> None:
        self._written: dict[int, int] = {}

    def put(self, parameter: Tensor, array: Any, *, at: At = ()) -> None:
        """Write ``array`` to the part ``at`` of ``parameter``."""
        target, source = parameter.data[at], _tensor(np.asarray(array))
        if source.shape != target.shape:
            raise ValueError(f"tensor of shape {tuple(source.shape)} for {tuple(target.shape)}")
        target.copy_(source)
        self._written[id(parameter)] = self._written.get(id(parameter), 0) + target.numel()

    def check(self, model: nn.Module) -> None:
        """Every element of every parameter has been written once."""
        for name, parameter in model.named_parameters():
            written = self._written.get(id(parameter), 0)
            if written != parameter.numel():
                raise AssertionError(f"{name}: {written} of {parameter.numel()} elements written")


Convert = Callable[[np.ndarray], np.ndarray]
At = slice | tuple[slice, ...]


def _as_it_is(array: np.ndarray) -> np.ndarray:
    return array


class _Write(NamedTuple):
    """How a leaf is written into the model.

    Attributes:
        path: of the leaf.
        like: one of the parameters that it fills; the leaf is read in this parameter's dtype.
        into: writes it.
        stacked: whether ``into`` takes its layers one after the other, not one array.
    """

    path: LeafPath
    like: Tensor
    into: Callable[[_Filler, Any], None]
    stacked: bool


def _leaves(tree: Tree, above: LeafPath = ()) -> Iterator[tuple[LeafPath, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _piece(leaf: Any, write: _Write) -> int:
    """The number of a leaf's elements that are in memory at a time."""
    size = int(np.prod(leaf.shape))
    if isinstance(leaf, LazyLeaf) and write.stacked:
        return size // leaf.shape[0] * leaf.step
    return size


def _read(leaf: Any, write: _Write) -> np.ndarray | Iterator[np.ndarray]:
    if isinstance(leaf, LazyLeaf):
        dtype = str(write.like.dtype).removeprefix("torch.")
        return leaf.layers(dtype) if write.stacked else leaf.read(dtype)
    return np.asarray(leaf)


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype == ml_dtypes.bfloat16:  # torch does not know numpy's bfloat16
        return torch.from_numpy(_writable(array).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(_writable(array.astype(np.float32, copy=False)))


def _writable(array: np.ndarray) -> np.ndarray:
    return np.require(array, requirements="W")


def _parameters(model: nn.Module) -> Iterable[tuple[nn.Module, str, Tensor]]:
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            yield module, name, parameter


def _stays_wide(model: FlowModel, module: nn.Module, name: str) -> bool:
    if isinstance(module, nn.LayerNorm) or name.endswith("norm") or name == "positions":
        return True
    heads = {model.action_in, model.action_out, model.time_in, model.time_out}
    heads |= {model.modulation} if model.adaptive else {model.state}
    return module in heads or module is model.vision.embedding


def _writes(model: FlowModel) -> Iterator[_Write]:
    """Every leaf that the model reads."""
    yield from _vision_writes(model.vision)
    llm = ("PaliGemma", "llm")
    yield _whole((*llm, "embedder", "input_embedding"), model.embedding)
    yield from _layer_writes(model.language, "")
    yield from _layer_writes(model.expert, "_1")
    prefix = "time_mlp" if model.adaptive else "action_time_mlp"
    yield from _linear(("action_in_proj",), model.action_in)
    yield from _linear(("action_out_proj",), model.action_out)
    yield from _linear((f"{prefix}_in",), model.time_in)
    yield from _linear((f"{prefix}_out",), model.time_out)
    if model.adaptive:
        yield from _modulation_writes(model)
    else:
        yield from _linear(("state_proj",), model.state)
        yield _whole((*llm, "final_norm_1", "scale"), model.final_norm, _norm_factor)


def _vision_writes(tower: VisionTower) -> Iterator[_Write]:
    img = ("PaliGemma", "img")
    yield _whole(
        (*img, "embedding", "kernel"),
        tower.embedding.weight,
        lambda kernel: kernel.reshape(-1, kernel.shape[-1]).T,
    )
    yield _whole((*img, "embedding", "bias"), tower.embedding.bias)
    yield _whole((*img, "pos_embedding"), tower.positions, lambda positions: positions[0])
    yield _whole((*img, "Transformer", "encoder_norm", "scale"), tower.norm.weight)
    yield _whole((*img, "Transformer", "encoder_norm", "bias"), tower.norm.bias)
    yield from _linear((*img, "head"), tower.head)
    blocks = cast("list[Block]", list(tower.blocks))
    stacked, width = (*img, "Transformer", "encoderblock"), blocks[0].out.weight.shape[0]
    for norm, name in (("norm_attention", "LayerNorm_0"), ("norm_mlp", "LayerNorm_1")):
        norms = [getattr(block, norm) for block in blocks]
        yield _each((*stacked, name, "scale"), [each.weight for each in norms])
        yield _each((*stacked, name, "bias"), [each.bias for each in norms])
    attention = (*stacked, "MultiHeadDotProductAttention_0")
    for part, name in enumerate(("query", "key", "value")):
        rows = slice(part * width, (part + 1) * width)
        weights, biases = zip(
            *((block.qkv.weight, block.qkv.bias) for block in blocks), strict=True
        )
        yield _each(
            (*attention, name, "kernel"), weights, lambda a: a.reshape(width, width).T, rows
        )
        yield _each((*attention, name, "bias"), biases, lambda a: a.reshape(-1), rows)
    outs = [block.out.weight for block in blocks]
    yield _each((*attention, "out", "kernel"), outs, lambda a: a.reshape(width, -1).T)
    yield _each((*attention, "out", "bias"), [block.out.bias for block in blocks])
    for dense, name in (("up", "Dense_0"), ("down", "Dense_1")):
        layers = [getattr(block, dense) for block in blocks]
        path = (*stacked, "MlpBlock_0", name)
        yield _each((*path, "kernel"), [each.weight for each in layers], lambda a: a.T)
        yield _each((*path, "bias"), [each.bias for each in layers])


def _layer_writes(modules: nn.ModuleList, suffix: str) -> Iterator[_Write]:
    layers = cast("list[gemma.Layer]", list(modules))
    stacked, queries = ("PaliGemma", "llm", "layers"), layers[0].heads * layers[0].head_width
    attention, mlp = (*stacked, "attn"), (*stacked, f"mlp{suffix}")
    qkv = [layer.qkv for layer in layers]
    for name, convert, columns in (
        (f"q_einsum{suffix}", _query_kernel, slice(0, queries)),
        (f"kv_einsum{suffix}", _key_value_kernel, slice(queries, None)),
    ):
        yield _each((*attention, name, "w"), qkv, convert, (slice(None), columns))
    yield _each(
        (*attention, f"attn_vec_einsum{suffix}", "w"),  # [N, H, D]
        [layer.out for layer in layers],
        lambda out: out.reshape(-1, out.shape[-1]),
    )
    yield _each(
        (*mlp, "gating_einsum"),  # [2, D, F]
        [layer.gate_up for layer in layers],
        lambda both: np.concatenate(list(both), axis=1),
    )
    yield _each((*mlp, "linear"), [layer.down for layer in layers])
    for name in ("pre_attention_norm", "pre_ffw_norm"):
        if hasattr(layers[0], name):
            norms = [getattr(layer, name) for layer in layers]
            yield _each((*stacked, f"{name}{suffix}", "scale"), norms, _norm_factor)


def _modulation_writes(model: FlowModel) -> Iterator[_Write]:
    """All norms' projections side by side: two per layer in order, then the final norm's."""
    llm, size = ("PaliGemma", "llm"), 3 * model.shape.expert_width
    for name, parameter in (("kernel", model.modulation.weight), ("bias", model.modulation.bias)):

        def write(filler: _Filler, parts: Iterable[np.ndarray], first: int, to: Tensor) -> None:
            for index, part in enumerate(parts):
                start = (2 * index + first) * size
                filler.put(to, part.T, at=slice(start, start + size))

        for first, norm in enumerate(("pre_attention_norm", "pre_ffw_norm")):
            path = (*llm, "layers", f"{norm}_1", "Dense_0", name)
            yield _Write(path, parameter, partial(write, first=first, to=parameter), stacked=True)
        last = slice(2 * model.shape.depth * size, None)
        final = (*llm, "final_norm_1", "Dense_0", name)
        yield _whole(final, parameter, lambda array: array.T, last)


def _whole(path: LeafPath, parameter: Tensor, convert: Convert = _as_it_is, at: At = ()) -> _Write:
    """A leaf that is one parameter, or the part ``at`` of it."""

    def into(filler: _Filler, array: np.ndarray) -> None:
        filler.put(parameter, convert(array), at=at)

    return _Write(path, parameter, into, stacked=False)


def _each(
    path: LeafPath, parameters: Sequence[Tensor], convert: Convert = _as_it_is, at: At = ()
) -> _Write:
    """A leaf that is stacked over layers: each has a parameter for its part."""

    def into(filler: _Filler, parts: Iterable[np.ndarray]) -> None:
        for parameter, part in zip(parameters, parts, strict=True):
            filler.put(parameter, convert(part), at=at)

    return _Write(path, parameters[0], into, stacked=True)


def _linear(path: LeafPath, module: Any) -> Iterator[_Write]:
    """A kernel [in, out] and its bias."""
    yield _whole((*path, "kernel"), module.weight, lambda kernel: kernel.T)
    yield _whole((*path, "bias"), module.bias)


def _query_kernel(heads: np.ndarray) -> np.ndarray:
    """[N, D, H] as [D, N * H], each head in the order of :func:`gemma.interleaved`."""
    apart = heads[..., gemma.interleaved(heads.shape[-1]).numpy()]
    return apart.transpose(1, 0, 2).reshape(heads.shape[1], -1)


def _key_value_kernel(both: np.ndarray) -> np.ndarray:
    """[2, K, D, H] as [D, 2 * K * H], keys interleaved like queries."""
    keys, values = both
    values = values.transpose(1, 0, 2).reshape(values.shape[1], -1)
    return np.concatenate([_query_kernel(keys), values], axis=1)


def _norm_factor(scale: np.ndarray) -> np.ndarray:
    wide = torch.from_numpy(np.array(scale, np.float32))
    factor: np.ndarray = gemma.norm_factor(wide).numpy()
    return factor
