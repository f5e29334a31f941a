"""Creates directories atomically, and replaces only those that we made."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from openpi_flash_models.errors import CheckpointError

_KEPT = 200
MANIFEST = "source_manifest.json"
"""Records what a directory was made from, and which command made it and may replace it."""


def read_manifest(directory: Path) -> dict[str, str]:
    """What the directory was made from; empty if it was not made by us."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text())
        return {str(key): str(value) for key, value in manifest.items()}
    except (OSError, ValueError, AttributeError):
        return {}


@contextlib.contextmanager
def building(target: Path, manifest: Mapping[str, str], *, replace: bool) -> Iterator[Path]:
    """Yield an empty directory to fill; afterwards it becomes ``target``.

    Args:
        target: new, empty, or (with ``replace``) one that this function made before.
        manifest: what it is made from; ``made_by`` is the command.
        replace: whether to replace an earlier one.

    Raises:
        CheckpointError: ``target`` is occupied, or the disk cannot be written.
    """
    target = target.expanduser().absolute()
    partial = _beside(target, "partial")
    try:
        _refuse_what_others_made(target, manifest["made_by"], replace=replace)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            (partial / MANIFEST).write_text(json.dumps(dict(manifest), indent=2) + "\n")
            # another process may have made it meanwhile
            _refuse_what_others_made(target, manifest["made_by"], replace=replace)
            _swap_in(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {error.filename or target}: {error.strerror or error}"
        ) from error


def _refuse_what_others_made(target: Path, command: str, *, replace: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise CheckpointError(f"{target} is a file, choose another place")
    if not any(target.iterdir()):
        return
    if read_manifest(target).get("made_by") != command:
        raise CheckpointError(
            f"{target} holds files that this command did not write; choose an empty or new "
            "directory"
        )
    if not replace:
        raise CheckpointError(f"{target} was made before; say --force to make it again")


def _beside(target: Path, mark: str) -> Path:
    """A hidden name beside the target's, short enough for the file system."""
    start = os.fsdecode(os.fsencode(target.name)[:_KEPT])
    return target.with_name(f".{start}.{os.getpid()}.{mark}")


def _swap_in(partial: Path, target: Path) -> None:
    old = _beside(target, "old")
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
