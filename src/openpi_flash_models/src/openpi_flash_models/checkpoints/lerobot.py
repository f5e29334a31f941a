"""Normalisation statistics of LeRobot's checkpoints.

LeRobot keeps them in one of two places (huggingface/lerobot, ``normalize_processor.py`` and
``migrate_policy_normalization.py``):

    0.1 to 0.3   tensors of model.safetensors: normalize_inputs.buffer_observation_state.mean,
                 unnormalize_outputs.buffer_action.std, ...; config.json says how they are used
    later        policy_preprocessor.json and policy_postprocessor.json, each of which names a
                 safetensors file with observation.state.mean, action.q01, ...
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from openpi_flash_models.checkpoints.shards import INDEX_FILE, MODEL_FILE, Tensors, open_tensors
from openpi_flash_models.checkpoints.tensor_file import TensorFile, write_tensor_file
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.files import read_json
from openpi_flash_models.transforms.norm_stats import FieldStats, NormStats, refuse_backward

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor", "policy_postprocessor"
_STATE, _ACTION = "observation.state", "action"
_EPSILON = 1e-8
_BUFFER = re.compile(
    r"(?:model\.)?(?:un)?normalize(?:_inputs|_outputs|_targets)?\.buffer_(?P<feature>\w+)\.(?P<name>\w+)"
)
_RANGES = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90")}

Features = dict[str, dict[str, np.ndarray]]
"""Statistics by name, of each feature: ``{"observation.state": {"mean": [D], ...}}``."""


@dataclass(frozen=True)
class LeRobotStats:
    """What a LeRobot checkpoint says of normalisation.

    Attributes:
        stats: of state and actions, with the scaling that the checkpoint uses.
        relative_actions: whether its actions are relative to the state.
    """

    stats: NormStats
    relative_actions: bool


def is_normalization(tensor: str) -> bool:
    """Whether a tensor of a model file holds statistics rather than weights."""
    return _BUFFER.fullmatch(tensor) is not None


def read_lerobot_stats(checkpoint: Path) -> LeRobotStats | None:
    """Read LeRobot's statistics of a checkpoint; None: there are none.

    Raises:
        CheckpointError: they are broken or incomplete.
    """
    if any(checkpoint.glob(f"{PREPROCESSOR}*")):
        return _of_processors(checkpoint)
    if not any((checkpoint / name).is_file() for name in (MODEL_FILE, INDEX_FILE)):
        return None
    tensors = open_tensors(checkpoint)
    found: Features = {}
    # underscores stand for the dots that PyTorch does not allow in a name
    features = {"observation_state": _STATE, "action": _ACTION}
    for key in tensors.tensors:
        match = _BUFFER.fullmatch(key)
        if match is not None and match["feature"] in features:
            statistics = found.setdefault(features[match["feature"]], {})
            statistics[match["name"]] = _numbers(tensors, key)
    if _STATE not in found and _ACTION not in found:
        return None
    config = checkpoint / "config.json"
    modes = _modes_of(config) if config.is_file() else {}
    source = f"{tensors.path} (LeRobot's normalize_inputs and unnormalize_outputs)"
    return LeRobotStats(_stats(found, found, modes, source), relative_actions=False)


def write_lerobot_stats(directory: Path, found: LeRobotStats) -> None:
    """Write statistics as LeRobot does today.

    Args:
        directory: gets ``policy_preprocessor.json`` and ``policy_postprocessor.json``, each with
            a safetensors file beside it.
        found: of another checkpoint.
    """
    features = {_STATE: found.stats.state, _ACTION: found.stats.actions}
    tensors: dict[str, np.ndarray] = {}
    modes: dict[str, str] = {}
    for (feature, stats), kind in zip(features.items(), ("STATE", "ACTION"), strict=True):
        by_mean = stats.scaling == "mean_std"
        modes[kind] = "MEAN_STD" if by_mean else "QUANTILES"
        used = {"mean": stats.mean, "std": stats.std, "q01": stats.q01, "q99": stats.q99}
        tensors |= {f"{feature}.{name}": v for name, v in used.items() if v is not None}
    entries = {name: (np.dtype(np.float64), values.shape) for name, values in tensors.items()}
    for pipeline, step in (
        (PREPROCESSOR, "normalizer_processor"),
        (POSTPROCESSOR, "unnormalizer_processor"),
    ):
        file = f"{pipeline}_step_0_{step}.safetensors"
        write_tensor_file(directory / file, entries, iter(tensors.items()), {})
        steps = [{"registry_name": step, "config": {"norm_map": modes}, "state_file": file}]
        if found.relative_actions:
            relative = {"registry_name": "relative_actions_processor", "config": {"enabled": True}}
            steps.insert(0, relative)
        content = {"name": pipeline, "steps": steps}
        (directory / f"{pipeline}.json").write_text(json.dumps(content, indent=2) + "\n")


def _of_processors(checkpoint: Path) -> LeRobotStats:
    before = _Processor(checkpoint, PREPROCESSOR, "normalizer_processor")
    after = _Processor(checkpoint, POSTPROCESSOR, "unnormalizer_processor")
    # action statistics come from the unnormalizer; older exports keep all in the first file
    actions, action_modes = (
        (after.found, after.modes) if _ACTION in after.found else (before.found, before.modes)
    )
    modes = {"STATE": before.modes.get("STATE"), "ACTION": action_modes.get("ACTION")}
    source = f"{before.file} (LeRobot's normalizer)"
    stats = _stats(before.found, actions, {k: v for k, v in modes.items() if v}, source)
    return LeRobotStats(stats, before.relative_actions)


class _Processor:
    """A pipeline's file, and the statistics of its normalising step."""

    def __init__(self, checkpoint: Path, name: str, step_name: str) -> None:
        self.file = checkpoint / f"{name}.json"
        self.found: Features = {}
        self.modes: dict[str, str] = {}
        self.relative_actions = False
        if not self.file.is_file():
            if name == POSTPROCESSOR:
                return  # all is in the first one
            raise CheckpointError(
                f"{self.file} is missing: it says how the statistics beside it are used"
            )
        for step in _steps(self.file):
            settings = step.get("config") or {}
            if step.get("registry_name") == "relative_actions_processor":
                self.relative_actions = bool(settings.get("enabled", False))
            if step.get("registry_name") != step_name:
                continue
            self.modes = _names(settings.get("norm_map"), self.file)
            self.found = _state_file(self.file, step.get("state_file"))


def _steps(file: Path) -> list[Mapping[str, Any]]:
    content = read_json(file, "a LeRobot pipeline")
    steps = content.get("steps") if isinstance(content, Mapping) else None
    if not isinstance(steps, list) or not all(
        isinstance(step, Mapping) and isinstance(step.get("config") or {}, Mapping)
        for step in steps
    ):
        raise CheckpointError(f"{file} is not a LeRobot pipeline: it has no list of steps")
    return steps


def _state_file(pipeline: Path, name: Any) -> Features:
    if name is None:
        return {}
    # a plain name: nothing outside the checkpoint is ever read
    if not isinstance(name, str) or PurePosixPath(name).parts != (name,) or name == "..":
        raise CheckpointError(f"{pipeline}: state_file is {name!r}, expected a file beside it")
    file = pipeline.parent / name
    if not file.exists():
        raise CheckpointError(f"{file} is missing, which {pipeline} says has the statistics")
    tensors = TensorFile(file)
    found: Features = {}
    for key in tensors.tensors:
        feature, _, statistic = key.rpartition(".")
        if feature in (_STATE, _ACTION) and statistic != "count":
            found.setdefault(feature, {})[statistic] = _numbers(tensors, key)
    return found


def _modes_of(config: Path) -> dict[str, str]:
    content = read_json(config, "a config.json")
    return _names(
        content.get("normalization_mapping") if isinstance(content, Mapping) else None, config
    )


def _names(modes: Any, file: Path) -> dict[str, str]:
    if modes is None:
        return {}
    if not isinstance(modes, Mapping):
        raise CheckpointError(f"{file}: the normalization modes are {json.dumps(modes)[:60]}")
    return {str(key): str(value) for key, value in modes.items()}


def _numbers(tensors: Tensors, key: str) -> np.ndarray:
    values = np.empty(tensors.tensors[key].shape, np.float64)
    tensors.copy_into(values, key)
    return values.reshape(-1)


def _stats(states: Features, actions: Features, modes: Mapping[str, str], source: str) -> NormStats:
    for name, features in ((_STATE, states), (_ACTION, actions)):
        if name not in features:
            raise CheckpointError(f"{source} has no statistics of {name}")
    return NormStats(
        _field(states[_STATE], modes.get("STATE"), f"{source}: {_STATE}"),
        _field(actions[_ACTION], modes.get("ACTION"), f"{source}: {_ACTION}"),
        source,
    )


def _field(found: Mapping[str, np.ndarray], mode: str | None, place: str) -> FieldStats:
    if mode is None:
        mode = "MEAN_STD" if "mean" in found else "MIN_MAX"
    if mode not in ("MEAN_STD", "IDENTITY", *_RANGES):
        known = ", ".join(("MEAN_STD", "IDENTITY", *_RANGES))
        raise CheckpointError(f"{place}: normalization mode {mode!r}, expected one of {known}")
    low, high = (found.get(name) for name in _RANGES.get(mode, _RANGES["QUANTILES"]))
    mean, std = found.get("mean"), found.get("std")
    used = {"MEAN_STD": (mean, std), "IDENTITY": (next(iter(found.values())),)}
    needed = used.get(mode, (low, high))
    if any(values is None for values in needed):
        raise CheckpointError(f"{place}: mode {mode} needs more than {', '.join(sorted(found))}")
    if mode == "IDENTITY":
        size = len(next(iter(found.values())))
        return FieldStats(np.zeros(size), np.ones(size), low, high, 0.0, "mean_std")
    there = [values for values in (mean, std, low, high) if values is not None]
    if len({len(values) for values in there}) != 1:
        raise CheckpointError(f"{place}: its statistics have different lengths")
    if not all(np.isfinite(values).all() for values in needed if values is not None):
        raise CheckpointError(
            f"{place}: the statistics are not finite: the model was saved before it was given any; "
            "put those of your robot into assets/<asset id>/norm_stats.json"
        )
    try:
        refuse_backward(std, low, high, place)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    return FieldStats(
        mean, std, low, high, _EPSILON, "mean_std" if mode == "MEAN_STD" else "quantile"
    )
