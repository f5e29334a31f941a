"""The checkpoints of an experiment's directory, by the numbers of their training steps."""

from __future__ import annotations

import re
from pathlib import Path


def checkpoint_names(directory: Path) -> list[str]:
    """The names of the checkpoints in `directory`, by rising step; empty if it cannot be read."""
    try:
        names = [path.name for path in directory.iterdir() if path.is_dir()]
    except OSError:
        return []
    return sorted((name for name in names if _is_step(name)), key=int)


def find_checkpoint(wanted: str, names: list[str]) -> str | None:
    """The name among `names` that a client means: `5000`, `005000` or `checkpoint-5000`."""
    step = wanted.removeprefix("checkpoint-")
    if not _is_step(step):
        return None
    return next((name for name in names if _is_step(name) and int(name) == int(step)), None)


def _is_step(name: str) -> bool:
    return _STEP.fullmatch(name) is not None


_STEP = re.compile(r"[0-9]{1,18}")
