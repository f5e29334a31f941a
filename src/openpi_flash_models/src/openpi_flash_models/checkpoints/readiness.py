"""Checks of a checkpoint before its weights are read.

Loading a policy and checking a configuration use the same functions, so that a check never passes
a checkpoint that loading refuses. Needs no model framework, and reads no weights.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from openpi_flash_models.actions.malformed import MalformedTokens, check_malformed_tokens
from openpi_flash_models.checkpoints.declared import Finding, disagreements
from openpi_flash_models.checkpoints.layout import lazy_leaves
from openpi_flash_models.checkpoints.leaves import LazyLeaf, LeafPath
from openpi_flash_models.checkpoints.lora import has_lora
from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.downloads.install import MANIFEST
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.model.shape import MODEL_NAMES, ModelKind, ModelShape, check_tree
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer
from openpi_flash_models.transforms.norm_stats import NormStats
from openpi_flash_models.transforms.normalize import (
    Normalization,
    NormalizationChoice,
    choose_normalization,
    refuse_still_state,
)

log = logging.getLogger(__name__)


def normalization_of(
    wanted: NormalizationChoice, config: InferenceConfig, checkpoint: Path, stats: NormStats
) -> Normalization:
    """How a policy scales state and actions.

    Args:
        wanted: ``auto`` leaves it to the config, and then to the checkpoint.
        config: of the policy.
        checkpoint: the directory of its weights.
        stats: what they are scaled by.

    Raises:
        InferenceConfigError: there is no such choice.
        CheckpointError: the statistics lack what the scaling needs, or have no range in a
            dimension of the state.
    """
    choice = config.normalization if wanted == "auto" else wanted
    default = config.scaling
    if config.released_normalization is not None and _is_release(checkpoint, config):
        default = config.released_normalization
    chosen = choose_normalization(choice, stats, default, MODEL_NAMES[config.kind])
    refuse_still_state(stats, chosen.state, sum(part.size for part in config.robot.state))
    if config.released_normalization is not None and choice == "auto":
        log.warning(
            "%s: normalization is %s, as %s; set normalization if the weights were trained "
            "otherwise (docs/models.md)",
            config.name,
            chosen.actions,
            "the released weights need"
            if default == config.released_normalization
            else "openpi trains today",
        )
    return chosen


def model_shape(leaves: Mapping[LeafPath, LazyLeaf], source: str, kind: ModelKind) -> ModelShape:
    """The shape of a model whose tensors are not read yet; LoRA tensors are left out.

    Args:
        leaves: of the checkpoint.
        source: what to call it in an error.
        kind: which model it has to be.

    Raises:
        CheckpointError: it is an incomplete model, or one of another kind.
    """
    plain = leaves
    if has_lora(leaves):
        plain = {path: leaf for path, leaf in leaves.items() if "lora_" not in path[-1]}
    shape = check_tree(plain, source)
    refuse_other_kind(shape, source, kind)
    return shape


def refuse_other_kind(shape: ModelShape, source: str, kind: ModelKind) -> None:
    """Refuse a model of another kind.

    Raises:
        CheckpointError: it is one.
    """
    if shape.kind != kind:
        raise CheckpointError(
            f"{source}: is a {MODEL_NAMES[shape.kind]} model, not {MODEL_NAMES[kind]}; "
            f"openpi-flash inspect-checkpoint {source} names the configs that fit"
        )


def refuse_other_width(shape: ModelShape, config: InferenceConfig, source: str) -> None:
    """Refuse a model whose actions are not as wide as the config's.

    Raises:
        CheckpointError: the widths differ.
    """
    if shape.kind != "pi0_fast" and shape.action_dim != config.action_dim:
        raise CheckpointError(
            f"{source}: the model has {shape.action_dim} action dimensions, the config "
            f"{config.name} is for {config.action_dim}"
        )


def refuse_other_tokenizer(tokenizer: PaligemmaTokenizer, shape: ModelShape, source: str) -> None:
    """Refuse a tokenizer with ids that the model does not have.

    Raises:
        CheckpointError: the tokenizer has more pieces than the model.
    """
    if tokenizer.vocabulary_size > shape.vocabulary:
        raise CheckpointError(
            f"{source}: its tokenizer has {tokenizer.vocabulary_size} pieces, the model only "
            f"{shape.vocabulary}: it belongs to another model"
        )


def heed_declared(checkpoint: Path, shape: ModelShape, config: InferenceConfig | None) -> None:
    """Warn where ``config.json`` contradicts the config.

    Raises:
        CheckpointError: it contradicts the tensors.
    """
    for finding in disagreements(checkpoint, shape, config):
        if finding.severity == "error":
            raise CheckpointError(finding.text)
        log.warning("%s", finding.text)


def shape_findings(
    checkpoint: Path, kind: ModelKind, config: InferenceConfig | None
) -> tuple[ModelShape | None, list[Finding]]:
    """The shape of a checkpoint's model, and what is wrong with it."""
    findings: list[Finding] = []
    source = str(checkpoint)
    try:
        shape = model_shape(lazy_leaves(checkpoint), source, kind)
    except CheckpointError as error:
        return None, [Finding("error", str(error))]
    findings += _caught(lambda: disagreements(checkpoint, shape, config))
    if config is not None:
        try:
            refuse_other_width(shape, config, source)
        except CheckpointError as error:
            findings.append(Finding("error", str(error)))
    return shape, findings


def check_choices(config: InferenceConfig, malformed_tokens: MalformedTokens) -> None:
    """Refuse settings of a policy that its model or robot cannot follow.

    Raises:
        InferenceConfigError: says which.
    """
    check_malformed_tokens(malformed_tokens, config.robot)


def _caught(findings: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from findings()
    except CheckpointError as error:
        yield Finding("error", str(error))


def _is_release(checkpoint: Path, config: InferenceConfig) -> bool:
    """Whether a directory is a copy of the released weights, by its name or its download's."""
    if config.checkpoint is None:
        return False
    release = config.checkpoint.rstrip("/")
    if release.rpartition("/")[2] in (checkpoint.name, checkpoint.resolve().name):
        return True
    try:
        return str(json.loads((checkpoint / MANIFEST).read_text())["url"]).rstrip("/") == release
    except (OSError, ValueError, KeyError, TypeError):
        return False
