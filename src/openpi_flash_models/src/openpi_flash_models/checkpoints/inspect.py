"""Describes a checkpoint without reading its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from openpi_flash_models.checkpoints.layout import Layout, find_layout, lazy_leaves
from openpi_flash_models.checkpoints.leaves import LazyLeaf, LeafPath
from openpi_flash_models.checkpoints.lerobot import read_lerobot_stats
from openpi_flash_models.checkpoints.lora import has_lora
from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.config.named_configs import CONFIGS
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.model.shape import ModelShape, check_tree
from openpi_flash_models.text.tokenizer import find_tokenizer
from openpi_flash_models.transforms.norm_stats import (
    FieldStats,
    NormStats,
    asset_ids,
    read_norm_stats,
)

_TINY_RANGE = 1e-3


@dataclass(frozen=True)
class StatsReport:
    """Statistics of one robot.

    Attributes:
        asset_id: their name; empty for those of a LeRobot checkpoint, which has one robot.
        state: dimensions, as written.
        actions: dimensions, as written.
        has_quantiles: whether pi0.5 and pi0-FAST can use them.
        problem: why they are unusable, or what is odd about them; empty if nothing.
        source: where they are: a file of openpi's in ``assets/``, or LeRobot's.
    """

    asset_id: str
    state: int
    actions: int
    has_quantiles: bool
    problem: str = ""
    source: Literal["assets", "LeRobot"] = "assets"


@dataclass(frozen=True)
class Report:
    """A checkpoint.

    Attributes:
        directory: of the checkpoint.
        layout: of its tensors.
        shape: of the model.
        lora_tensors: adapters that are merged when it is loaded.
        parameters: number of parameters.
        nbytes: as stored.
        dtypes: number of tensors of each type.
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
    """Describe a checkpoint.

    Raises:
        CheckpointError: it is no complete checkpoint; names the tensors.
    """
    leaves = lazy_leaves(checkpoint)
    plain: Mapping[LeafPath, LazyLeaf] = leaves
    lora = 0
    if has_lora(leaves):
        plain = {path: leaf for path, leaf in leaves.items() if "lora_" not in path[-1]}
        lora = len(leaves) - len(plain)
    shape = check_tree(plain, str(checkpoint))
    stats = tuple(_stats(checkpoint))
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
            sorted(name for name, config in CONFIGS.items() if _fits(config, shape, stats))
        ),
        tokenizer=tokenizer,
    )


def _fits(config: InferenceConfig, shape: ModelShape, stats: Sequence[StatsReport]) -> bool:
    width = shape.action_dim or config.action_dim
    if (config.kind, config.action_dim) != (shape.kind, width):
        return False
    state_size = sum(part.size for part in config.robot.state)
    return any(
        report.asset_id == config.asset_id
        if report.source == "assets"
        else (report.state, report.actions) == (state_size, len(config.robot.action_names))
        for report in stats
    )


def _stats(checkpoint: Path) -> Iterator[StatsReport]:
    for asset_id in asset_ids(checkpoint):
        try:
            yield _report(asset_id, read_norm_stats(checkpoint, asset_id), "assets")
        except CheckpointError as error:
            yield StatsReport(asset_id, 0, 0, False, str(error))
    try:
        lerobot = read_lerobot_stats(checkpoint)
    except CheckpointError as error:
        yield StatsReport("", 0, 0, False, str(error), "LeRobot")
        return
    if lerobot is not None:
        yield _report("", lerobot.stats, "LeRobot")


def _report(asset_id: str, stats: NormStats, source: Literal["assets", "LeRobot"]) -> StatsReport:
    return StatsReport(
        asset_id,
        stats.state.size,
        stats.actions.size,
        stats.state.supports("quantile") and stats.actions.supports("quantile"),
        _oddity(stats),
        source,
    )


def _oddity(stats: NormStats) -> str:
    """Dimensions that scaling makes huge, as they hardly vary; padding does not count."""
    found = []
    for name, field in (("state", stats.state), ("actions", stats.actions)):
        flat = [str(i) for i in _nearly_constant(field)]
        if flat:
            found.append(f"{name} {', '.join(flat)}")
    return f"nearly constant: {'; '.join(found)}" if found else ""


def _nearly_constant(field: FieldStats) -> list[int]:
    spread = field.std if field.q01 is None or field.q99 is None else field.q99 - field.q01
    assert spread is not None, "there is one or the other"
    return [i for i, value in enumerate(spread) if 0 < value < _TINY_RANGE]
