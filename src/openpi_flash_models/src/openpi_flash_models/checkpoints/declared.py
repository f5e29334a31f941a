"""Compares a checkpoint's ``config.json`` with its tensors and with the config that it serves.

openpi's converter writes ``action_horizon`` and ``action_dim``, ours ``model`` beside them;
LeRobot writes ``type``, ``chunk_size`` and ``max_action_dim``. Tensors do not tell the horizon: a
wrong one is found only here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from openpi_flash_models.config.inference_config import InferenceConfig
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.files import read_json
from openpi_flash_models.model.shape import MODEL_NAMES, ModelKind, ModelShape

Severity = Literal["error", "warning", "note"]
_KINDS: dict[str, ModelKind] = {
    "pi0": "pi0",
    "pi05": "pi05",
    "pi0_fast": "pi0_fast",
    "pi0fast": "pi0_fast",
}


@dataclass(frozen=True)
class Finding:
    """Something about a checkpoint that its user should know.

    Attributes:
        severity: an ``error`` keeps it from being served, a ``warning`` is probably a mistake, a
            ``note`` is neither.
        text: the finding, with the file's name.
    """

    severity: Severity
    text: str


@dataclass(frozen=True)
class DeclaredModel:
    """The values of a ``config.json``; None where it has none.

    Attributes:
        file: its path.
        kind: which model.
        action_horizon: steps per chunk.
        action_dim: width of the model's actions.
    """

    file: Path
    kind: ModelKind | None
    action_horizon: int | None
    action_dim: int | None


def read_declared(checkpoint: Path) -> DeclaredModel | None:
    """Read ``config.json``; None: there is none.

    Raises:
        CheckpointError: it is no JSON object.
    """
    file = checkpoint / "config.json"
    if not file.is_file():
        return None
    content = read_json(file, "a JSON object")
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{file} is not a JSON object: it is a {type(content).__name__}")
    kind = content.get("model", content.get("type"))
    return DeclaredModel(
        file,
        _KINDS.get(kind) if isinstance(kind, str) else None,
        _count(content, "action_horizon", "chunk_size"),
        _count(content, "action_dim", "max_action_dim"),
    )


def disagreements(
    checkpoint: Path, shape: ModelShape, config: InferenceConfig | None
) -> Iterator[Finding]:
    """Where ``config.json`` contradicts the tensors, or the config that they are used with.

    Args:
        checkpoint: a directory.
        shape: of its tensors.
        config: the config that it is served with; None for a planner.

    Raises:
        CheckpointError: ``config.json`` is no JSON object.
    """
    declared = read_declared(checkpoint)
    if declared is None:
        return
    if declared.kind is not None and declared.kind != shape.kind:
        yield Finding(
            "error",
            f"{declared.file} says {MODEL_NAMES[declared.kind]}, the tensors beside it are those "
            f"of {MODEL_NAMES[shape.kind]}: they belong to two checkpoints",
        )
    if shape.action_dim and declared.action_dim not in (None, shape.action_dim):
        yield Finding(
            "error",
            f"{declared.file} says {declared.action_dim} action dimensions, the tensors beside it "
            f"have {shape.action_dim}: they belong to two checkpoints",
        )
    if config is not None and declared.action_horizon not in (None, config.action_horizon):
        yield Finding(
            "warning",
            f"{declared.file} says chunks of {declared.action_horizon} steps, the config "
            f"{config.name} asks for {config.action_horizon}: a model is right only for the "
            "horizon that it was trained with",
        )


def _count(content: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = content.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
