"""Fill a torch model from the tree that every checkpoint reader returns.

The tree is openpi's JAX one: layers stacked on the first axis, kernels [in, out]. Each tensor is
converted on its own and let go, so that the peak is the model and one tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from openpi_flash_models.model_shape import ModelShape
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
    """Make pi0 or pi0.5 of a checkpoint's tensors.

    Args:
        tree: a checked tree of either model, numpy arrays of any float type.
        shape: its kind and sizes.
        dtype: of the towers. Norms, the patch product and the projections of actions, state and
            time stay in float32.
        device: where to.

    Returns:
        The model, every parameter of it written, none of them trainable.
    """
    with torch.device("meta"):
        model = FlowModel(shape)
    # Empty memory of the final dtype: nothing is allocated twice.
    for module, name, parameter in _parameters(model):
        wide = _stays_wide(model, module, name)
        empty = torch.empty_like(parameter, dtype=torch.float32 if wide else dtype, device=device)
        setattr(module, name, nn.Parameter(empty, requires_grad=False))
    filler = _Filler()
    _fill_vision(filler, model.vision, tree["PaliGemma"]["img"])
    llm = tree["PaliGemma"]["llm"]
    filler.put(model.embedding, llm["embedder"]["input_embedding"])
    _fill_layers(filler, model.language, llm["layers"], "")
    _fill_layers(filler, model.expert, llm["layers"], "_1")
    _fill_heads(filler, model, tree)
    filler.check(model)
    return model.eval()


class _Filler:
    """Writes arrays into parameters, and knows which were written."""

    def __init__(self) -> None:
        self._written: dict[int, int] = {}

    def put(self, parameter: Tensor, array: Any, *, at: slice | tuple[slice, ...] = ()) -> None:
        """Write ``array`` to the part ``at`` of ``parameter``."""
        target = parameter.data[at]
        # bfloat16 of ml_dtypes is unknown to torch; widening is exact.
        source = torch.from_numpy(np.ascontiguousarray(np.asarray(array, dtype=np.float32)))
        if source.shape != target.shape:
            raise ValueError(f"tensor of shape {tuple(source.shape)} for {tuple(target.shape)}")
        target.copy_(source)
        self._written[id(parameter)] = self._written.get(id(parameter), 0) + target.numel()

    def linear(self, module: Any, dense: Tree) -> None:
        """A kernel [in, out] and its bias."""
        self.put(module.weight, np.asarray(dense["kernel"]).T)
        self.put(module.bias, dense["bias"])

    def factor(self, parameter: Tensor, scale: Any) -> None:
        """The scale of an RMS norm."""
        self.put(parameter, gemma.norm_factor(torch.from_numpy(np.array(scale, np.float32))))

    def check(self, model: nn.Module) -> None:
        """Every element of every parameter has been written once."""
        for name, parameter in model.named_parameters():
            written = self._written.get(id(parameter), 0)
            if written != parameter.numel():
                raise AssertionError(f"{name}: {written} of {parameter.numel()} elements written")


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


def _fill_vision(filler: _Filler, tower: VisionTower, img: Tree) -> None:
    kernel = np.asarray(img["embedding"]["kernel"])
    filler.put(tower.embedding.weight, kernel.reshape(-1, kernel.shape[-1]).T)
    filler.put(tower.embedding.bias, img["embedding"]["bias"])
    filler.put(tower.positions, img["pos_embedding"][0])
    stacked = img["Transformer"]["encoderblock"]
    attention = stacked["MultiHeadDotProductAttention_0"]
    for index, block in enumerate(tower.blocks):
        assert isinstance(block, Block)
        width = block.out.weight.shape[0]
        for norm, name in ((block.norm_attention, "LayerNorm_0"), (block.norm_mlp, "LayerNorm_1")):
            filler.put(norm.weight, stacked[name]["scale"][index])
            filler.put(norm.bias, stacked[name]["bias"][index])
        for part, name in enumerate(("query", "key", "value")):
            rows = slice(part * width, (part + 1) * width)
            kernel = np.asarray(attention[name]["kernel"][index])
            filler.put(block.qkv.weight, kernel.reshape(width, width).T, at=rows)
            filler.put(block.qkv.bias, np.reshape(attention[name]["bias"][index], -1), at=rows)
        filler.put(block.out.weight, np.reshape(attention["out"]["kernel"][index], (width, -1)).T)
        filler.put(block.out.bias, attention["out"]["bias"][index])
        for module, name in ((block.up, "Dense_0"), (block.down, "Dense_1")):
            filler.put(module.weight, np.asarray(stacked["MlpBlock_0"][name]["kernel"][index]).T)
            filler.put(module.bias, stacked["MlpBlock_0"][name]["bias"][index])
    filler.put(tower.norm.weight, img["Transformer"]["encoder_norm"]["scale"])
    filler.put(tower.norm.bias, img["Transformer"]["encoder_norm"]["bias"])
    filler.linear(tower.head, img["head"])


def _fill_layers(filler: _Filler, layers: nn.ModuleList, stacked: Tree, suffix: str) -> None:
    attention, mlp = stacked["attn"], stacked[f"mlp{suffix}"]
    for index, layer in enumerate(layers):
        assert isinstance(layer, gemma.Layer)
        query = _interleaved(attention[f"q_einsum{suffix}"]["w"][index])  # [N, D, H]
        keys, values = np.asarray(attention[f"kv_einsum{suffix}"]["w"][index])  # [K, D, H]
        out = np.asarray(attention[f"attn_vec_einsum{suffix}"]["w"][index])  # [N, H, D]
        start, width = 0, query.shape[1]
        for heads in (query, _interleaved(keys), values):
            end = start + heads.shape[0] * heads.shape[2]
            kernel = heads.transpose(1, 0, 2).reshape(width, -1)
            filler.put(layer.qkv, kernel, at=(slice(None), slice(start, end)))
            start = end
        filler.put(layer.out, out.reshape(-1, width))
        gate_up = np.asarray(mlp["gating_einsum"][index])  # [2, D, F]
        filler.put(layer.gate_up, gate_up.transpose(1, 0, 2).reshape(width, -1))
        filler.put(layer.down, np.asarray(mlp["linear"][index]))
        for name in ("pre_attention_norm", "pre_ffw_norm"):
            if hasattr(layer, name):
                filler.factor(getattr(layer, name), stacked[f"{name}{suffix}"]["scale"][index])


def _interleaved(heads: Any) -> np.ndarray:
    """[..., H] in the order of :func:`gemma.interleaved`."""
    return np.asarray(heads)[..., gemma.interleaved(heads.shape[-1]).numpy()]


def _fill_heads(filler: _Filler, model: FlowModel, tree: Tree) -> None:
    filler.linear(model.action_in, tree["action_in_proj"])
    filler.linear(model.action_out, tree["action_out_proj"])
    prefix = "time_mlp" if model.adaptive else "action_time_mlp"
    filler.linear(model.time_in, tree[f"{prefix}_in"])
    filler.linear(model.time_out, tree[f"{prefix}_out"])
    llm = tree["PaliGemma"]["llm"]
    if not model.adaptive:
        filler.linear(model.state, tree["state_proj"])
        filler.factor(model.final_norm, llm["final_norm_1"]["scale"])
        return
    layers = llm["layers"]
    norms = [
        (layers[f"{name}_1"]["Dense_0"], index)
        for index in range(model.shape.depth)
        for name in ("pre_attention_norm", "pre_ffw_norm")
    ]
    size = 3 * model.shape.expert_width
    parts = [(dense["kernel"][i], dense["bias"][i]) for dense, i in norms]
    final = llm["final_norm_1"]["Dense_0"]
    for index, (kernel, bias) in enumerate([*parts, (final["kernel"], final["bias"])]):
        rows = slice(index * size, (index + 1) * size)
        filler.put(model.modulation.weight, np.asarray(kernel).T, at=rows)
        filler.put(model.modulation.bias, bias, at=rows)
