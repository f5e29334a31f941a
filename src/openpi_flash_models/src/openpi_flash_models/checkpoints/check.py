"""Checks a configured checkpoint without reading its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from openpi_flash_models.actions.fast import find_fast_tokenizer
from openpi_flash_models.actions.malformed import MalformedTokens
from openpi_flash_models.checkpoints.declared import Finding
from openpi_flash_models.checkpoints.fetching import (
    check_planner_names,
    check_policy_names,
    is_missing,
)
from openpi_flash_models.checkpoints.framework import (
    FrameworkChoice,
    choose_framework,
    refuse_dtype,
)
from openpi_flash_models.checkpoints.layout import checkpoint_around, find_layout
from openpi_flash_models.checkpoints.readiness import (
    check_choices,
    normalization_of,
    refuse_other_tokenizer,
    shape_findings,
)
from openpi_flash_models.checkpoints.statistics import read_statistics
from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.config.named_configs import get_config
from openpi_flash_models.downloads import cached, is_remote, list_names
from openpi_flash_models.errors import CheckpointError, DownloadError, InferenceConfigError
from openpi_flash_models.files import expand_home
from openpi_flash_models.model.shape import MODEL_NAMES, ModelShape
from openpi_flash_models.text.tokenizer import PaligemmaTokenizer, find_tokenizer
from openpi_flash_models.transforms.normalize import NormalizationChoice

_ERRORS = (CheckpointError, DownloadError, InferenceConfigError)


def check_policy_checkpoint(
    config_name: str,
    location: str,
    *,
    framework: FrameworkChoice = "auto",
    dtype: str | None = None,
    normalization: NormalizationChoice = "auto",
    malformed_tokens: MalformedTokens = "error",
) -> list[Finding]:
    """Check an action policy's settings; arguments are those of ``load_policy``.

    Returns:
        Errors (loading would refuse the checkpoint), warnings (probable mistakes) and notes. A
        wrong checkpoint raises nothing, and nothing is downloaded but a listing.
    """
    found = _Findings()
    config = found.attempt(lambda: get_config(config_name))
    if config is None:
        return found.all
    found.attempt(lambda: check_choices(config, malformed_tokens))
    checkpoint = found.local(
        location, lambda names: check_policy_names(names, location, config), Path
    )
    if checkpoint is None:
        return found.all
    if found.attempt(lambda: find_layout(checkpoint)) is None:
        return found.all
    chosen = found.attempt(lambda: choose_framework(framework, checkpoint, config.kind))
    if chosen is not None:
        found.attempt(lambda: refuse_dtype(chosen, dtype, checkpoint))
    stats = found.attempt(lambda: read_statistics(checkpoint, config))
    if stats is not None:
        scaled = found.attempt(lambda: normalization_of(normalization, config, checkpoint, stats))
        if scaled is not None:
            found.note(
                f"statistics {stats.source}: state by {scaled.state}, actions by {scaled.actions}"
            )
    shape, problems = shape_findings(checkpoint, config.kind, config)
    found.all += problems
    found.tokenizer(checkpoint, shape)
    if config.kind == "pi0_fast" and config.action_tokens == "fast":
        found.fast_tokenizer(checkpoint, config)
    if shape is not None and chosen is not None:
        found.note(f"{MODEL_NAMES[shape.kind]} in {'PyTorch' if chosen == 'pytorch' else 'JAX'}")
    return found.all


def check_planner_checkpoint(location: str) -> list[Finding]:
    """Check a planner's checkpoint; as :func:`check_policy_checkpoint`."""
    found = _Findings()
    checkpoint = found.local(
        location, lambda names: check_planner_names(names, location), checkpoint_around
    )
    if checkpoint is None or found.attempt(lambda: find_layout(checkpoint)) is None:
        return found.all
    shape, problems = shape_findings(checkpoint, "pi05", None)
    found.all += problems
    found.tokenizer(checkpoint, shape)
    if shape is not None:
        found.note(f"{MODEL_NAMES[shape.kind]} in JAX")
    return found.all


class _Findings:
    """Collects findings; an error does not end the check."""

    def __init__(self) -> None:
        self.all: list[Finding] = []

    def note(self, text: str) -> None:
        self.all.append(Finding("note", text))

    def attempt(self, call: Callable[[], Any]) -> Any:
        """Return the call's result; if it fails, add an error to the findings and return None."""
        try:
            return call()
        except _ERRORS as error:
            self.all.append(Finding("error", str(error)))
            return None

    def local(
        self,
        location: str,
        check_names: Callable[[list[str]], None],
        find: Callable[[Path], Path],
    ) -> Path | None:
        """The directory of a location; None if it is not on this machine (yet)."""
        if self.attempt(lambda: (is_missing(location),)) is None:
            return None
        if is_missing(location):
            names = self.attempt(lambda: list_names(location))
            if names is not None:
                before = len(self.all)
                self.attempt(lambda: check_names(names))
                if len(self.all) == before:
                    self.note(f"{location} is downloaded at the first start")
            return None
        directory = cached(location) if is_remote(location) else None
        return self.attempt(lambda: find(directory or expand_home(location)))

    def tokenizer(self, checkpoint: Path, shape: ModelShape | None) -> None:
        try:
            file = find_tokenizer(checkpoint, download=False)
        except DownloadError as error:
            self.all.append(Finding("error", str(error)))
            return
        except CheckpointError as error:
            self.all.append(Finding("warning", f"{error}; serve tries to download it"))
            return
        tokenizer = self.attempt(lambda: PaligemmaTokenizer(file))
        if tokenizer is not None and shape is not None:
            self.attempt(lambda: refuse_other_tokenizer(tokenizer, shape, str(checkpoint)))

    def fast_tokenizer(self, checkpoint: Path, config: InferenceConfig) -> None:
        try:
            find_fast_tokenizer(checkpoint, config.fast_tokenizer, download=False)
        except DownloadError as error:
            self.all.append(Finding("error", str(error)))
        except CheckpointError as error:
            self.all.append(Finding("warning", f"{error}; serve tries to download it"))
