"""An item of an Orbax checkpoint that holds plain files: statistics, tokenizer, loader's state."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class FilesHandler(ocp.AsyncCheckpointHandler):  # type: ignore[misc]
    """Writes files into the item's directory.

    Orbax gives a temporary one, and renames it with the other items' when all are written.
    """

    def __init__(self) -> None:
        self._writer = ThreadPoolExecutor(max_workers=1)

    async def async_save(self, directory: Any, args: FilesSave) -> list[Future[None]]:
        """Start to write."""
        if not args.every_process and jax.process_index() != 0:
            return []
        return [self._writer.submit(_write, Path(directory), args.files)]

    def save(self, directory: Any, args: FilesSave) -> None:
        """Write."""

        async def write() -> None:
            for future in await self.async_save(directory, args):
                future.result()

        asyncio.run(write())

    def restore(self, directory: Any, args: Any = None) -> dict[str, bytes]:
        """All files by name."""
        del args
        root = Path(directory)
        files = (path for path in sorted(root.rglob("*")) if path.is_file())
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    def close(self) -> None:
        """End the writer's thread."""
        self._writer.shutdown()


@ocp.args.register_with_handler(FilesHandler, for_save=True)
@dataclass
class FilesSave(ocp.args.CheckpointArgs):  # type: ignore[misc]
    """What to save.

    Attributes:
        files: contents by name, which may have slashes.
        every_process: whether each process writes files of its own; else the first one alone does.
    """

    files: Mapping[str, bytes]
    every_process: bool = False


@ocp.args.register_with_handler(FilesHandler, for_restore=True)
@dataclass
class FilesRestore(ocp.args.CheckpointArgs):  # type: ignore[misc]
    """To read all files."""


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
