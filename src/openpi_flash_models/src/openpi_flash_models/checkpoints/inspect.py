"""What a checkpoint is, without reading its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openpi_flash_models.checkpoints.layout import Layout, find_layout, lazy_leaves
from openpi_flash_models.checkpoints.leaves import LazyLeaf, LeafPath
from openpi_flash_models.checkpoints.lora import has_lora
from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.config.named_configs import CONFIGS
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.model.shape import ModelShape, check_tree
from openpi_flash_models.text.tokenizer import find_tokenizer
from openpi_flash_models.transforms.norm_stats import FieldStats, NormStats, read_norm_stats

_TINY_RANGE = 1e-3


@dataclass(frozen=True)
class StatsReport:
    """Statistics of one robot.

    Attributes:
        asset_id: their name.
        state: dimensions, as written.
        actions: dimensions, as written.
        has_quantiles: whether pi0.5 and pi0-FAST can use them.
        problem: why they are unusable, or what is odd about them; empty if nothing.
    """

    asset_id: str
    state: int
    actions: int
    has_quantiles: bool
    problem: str = ""


@dataclass(frozen=True)
class Report:
    """A checkpoint.

    Attributes:
        directory: of the checkpoint.
        layout: of its tensors.
        shape: of the model.
        lora_tensors: adapters that are merged when it is loaded.
        parameters: how many numbers.
        nbytes: as stored.
        dtypes: how many tensors of which type.
        stats: by robot.
        configs: the named configs that can serve it.
        tokenizer: where it is found; None: nowhere.
    """

    directory: Path
    layout: Layout
    shape: ModelShape
    lora_tensors: int
    parameters: int
    nbytes: int
    dtypes: Mapping[str, int]
    stats: tuple[StatsReport, ...]
    configs: tuple[str, ...]
    tokenizer: Path | None


def inspect(checkpoint: Path) -> Report:
    """Look at a checkpoint.

    Raises:
        CheckpointError: it is none, or not a whole one; names the tensors.
    """
    leaves = lazy_leaves(checkpoint)
    plain: Mapping[LeafPath, LazyLeaf] = leaves
    lora = 0
    if has_lora(leaves):
        plain = {path: leaf for path, leaf in leaves.items() if "lora_" not in path[-1]}
        lora = len(leaves) - len(plain)
    shape = check_tree(plain, str(checkpoint))
    stats = tuple(_stats(checkpoint))
    ids = {report.asset_id for report in stats}
    try:
        tokenizer = find_tokenizer(checkpoint, download=False)
    except CheckpointError:
        tokenizer = None
    return Report(
        directory=checkpoint,
        layout=find_layout(checkpoint),
        shape=shape,
        lora_tensors=lora,
        parameters=sum(int(np.prod(leaf.shape, dtype=np.int64)) for leaf in leaves.values()),
        nbytes=sum(leaf.nbytes for leaf in leaves.values()),
        dtypes=Counter(str(leaf.dtype) for leaf in leaves.values()),
        stats=stats,
        configs=tuple(
            sorted(name for name, config in CONFIGS.items() if _fits(config, shape, ids))
        ),
        tokenizer=tokenizer,
    )


def _fits(config: InferenceConfig, shape: ModelShape, asset_ids: set[str]) -> bool:
    width = shape.action_dim or config.action_dim
    return (config.kind, config.action_dim) == (shape.kind, width) and config.asset_id in asset_ids


def _stats(checkpoint: Path) -> Iterator[StatsReport]:
    assets = checkpoint / "assets"
    for file in sorted(assets.rglob("norm_stats.json")):
        asset_id = file.parent.relative_to(assets).as_posix()
        try:
            stats = read_norm_stats(checkpoint, asset_id)
        except CheckpointError as error:
            yield StatsReport(asset_id, 0, 0, False, str(error))
            continue
        yield StatsReport(
            asset_id,
            len(stats.state.mean),
            len(stats.actions.mean),
            stats.state.q01 is not None and stats.actions.q01 is not None,
            _oddity(stats),
        )


def _oddity(stats: NormStats) -> str:
    """Dimensions that blow up when they are scaled; padding, which never moves, is none."""
    found = []
    for name, field in (("state", stats.state), ("actions", stats.actions)):
        flat = [str(i) for i in _nearly_constant(field)]
        if flat:
            found.append(f"{name} {', '.join(flat)}")
    return f"nearly constant: {'; '.join(found)}" if found else ""


def _nearly_constant(field: FieldStats) -> list[int]:
    spread = field.std if field.q01 is None or field.q99 is None else field.q99 - field.q01
    return [i for i, value in enumerate(spread) if 0 < value < _TINY_RANGE]
