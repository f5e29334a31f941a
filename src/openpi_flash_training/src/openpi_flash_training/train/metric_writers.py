"""Where the metrics of a run are written: a file of JSON lines, TensorBoard, Weights & Biases."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from openpi_flash_training.train.problem import SettingsError

FILE_NAME = "metrics.jsonl"
_WANDB_ID = "wandb_id.txt"


class MetricWriter(Protocol):
    """Takes the metrics of a step."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write; ``step`` counts from 0."""

    def close(self) -> None:
        """Write what is left, and close."""


def check_installed(*, tensorboard: bool, wandb: bool) -> None:
    """Check that the packages of the wanted writers are there.

    Raises:
        SettingsError: one is not; says what to install.
    """
    for name, module, wanted in (
        ("tensorboard", "tensorboardX", tensorboard),
        ("wandb", "wandb", wandb),
    ):
        if not wanted:
            continue
        try:
            importlib.import_module(module)
        except ImportError:
            raise SettingsError(
                f"run.{name}: {module} is not installed: "
                f"pip install './src/openpi_flash_training[{name}]'"
            ) from None


class JsonLines:
    """One object a line: ``step`` and the metrics, with all digits.

    Args:
        directory: of the run.
        resumed_at: the first step to come; lines of it and of later steps are of an interrupted
            run, and are removed.
    """

    def __init__(self, directory: Path, resumed_at: int) -> None:
        path = directory / FILE_NAME
        kept = ""
        if path.exists():
            kept = "".join(line for line in _whole_lines(path) if _step(line) < resumed_at)
        partial = path.with_suffix(".part")
        partial.write_text(kept)
        partial.replace(path)
        self._file = path.open("a")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """See :class:`MetricWriter`."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """See :class:`MetricWriter`."""
        self._file.close()


class TensorBoard:
    """Event files in ``<run>/tensorboard``."""

    def __init__(self, directory: Path) -> None:
        from tensorboardX import SummaryWriter

        self._writer: Any = SummaryWriter(str(directory / "tensorboard"))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """See :class:`MetricWriter`."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See :class:`MetricWriter`."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, offline unless ``WANDB_MODE`` says otherwise.

    A resumed run goes on with the same one.

    Args:
        directory: of the run.
        project: name.
        settings: shown with the run.
    """

    def __init__(self, directory: Path, project: str, settings: Mapping[str, Any]) -> None:
        import wandb

        known = directory / _WANDB_ID
        self._run: Any = wandb.init(
            project=project,
            name=directory.name,
            dir=str(directory),
            id=known.read_text() if known.exists() else None,
            resume="allow",
            config=dict(settings),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )
        known.write_text(str(self._run.id))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """See :class:`MetricWriter`."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """See :class:`MetricWriter`."""
        self._run.finish()


def _whole_lines(path: Path) -> list[str]:
    """Lines that were written to their end."""
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("}\n")]


def _step(line: str) -> int:
    return int(json.loads(line)["step"])
