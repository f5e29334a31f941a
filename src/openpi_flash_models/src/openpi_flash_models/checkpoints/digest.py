"""A name and a digest of a checkpoint, so that a client can tell which one answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openpi_flash_models.checkpoints.shards import INDEX_FILE
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.transforms.norm_stats import FILE_NAME as STATISTICS

_WHOLE = 2**20
_SAMPLES, _SAMPLE = 16, 4096


@dataclass(frozen=True)
class CheckpointIdentity:
    """A checkpoint's name and digest.

    Attributes:
        name: its directory; for a trainer's step with the run before it: ``my_run/29999``.
        digest: ``sha256:`` and 64 digits; see :func:`identify`.
    """

    name: str
    digest: str


def identify(checkpoint: Path) -> CheckpointIdentity:
    """Name a checkpoint, without reading all of it.

    The digest is the SHA-256 over every file that decides what a model answers (tensors, config
    files, statistics), in the order of their names. Of each file it takes the name, the size, and
    the content: all of it up to 1 MiB, else 16 blocks of 4 KiB at equal distances, first and last
    included. A copy of a checkpoint has the digest of the original; a further training step has
    another one. The digest does not protect against somebody who forges a file.

    Raises:
        CheckpointError: a file cannot be read.
    """
    total = hashlib.sha256()
    try:
        for path in sorted(_files(checkpoint), key=lambda path: path.as_posix()):
            name = path.relative_to(checkpoint).as_posix()
            size = path.stat().st_size
            total.update(name.encode("utf-8", "surrogateescape"))
            total.update(b"\0%d\0" % size)
            total.update(_sampled(path, size))
    except OSError as error:
        raise CheckpointError(
            f"cannot read {error.filename or checkpoint}: {error.strerror or error}"
        ) from error
    return CheckpointIdentity(_name(checkpoint), f"sha256:{total.hexdigest()}")


FileStates = tuple[tuple[str, int, int, int], ...]
"""Path, size, time of the last change in ns, and inode of each file."""


def file_states(checkpoint: Path) -> FileStates:
    """What changes whenever a file that decides the answers is written, also in place.

    A digest that samples large files may miss the few tensors that a fine-tune has changed.

    Raises:
        CheckpointError: a file cannot be looked at.
    """
    try:
        found = [(path.as_posix(), path.stat()) for path in sorted(_files(checkpoint.resolve()))]
    except OSError as error:
        raise CheckpointError(
            f"cannot read {error.filename or checkpoint}: {error.strerror or error}"
        ) from error
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in found)


def _files(checkpoint: Path) -> Iterator[Path]:
    params = checkpoint / "params"
    yield from (path for path in params.rglob("*") if path.is_file())
    if not params.is_dir():
        yield from checkpoint.glob("model*.safetensors")
    for name in (INDEX_FILE, "config.json"):
        if (checkpoint / name).is_file():
            yield checkpoint / name
    yield from (checkpoint / "assets").rglob(STATISTICS)
    yield from checkpoint.glob("policy_*processor*")


def _sampled(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        if size <= _WHOLE:
            return file.read(_WHOLE)
        parts = []
        for i in range(_SAMPLES):
            file.seek((size - _SAMPLE) * i // (_SAMPLES - 1))
            parts.append(file.read(_SAMPLE))
        return b"".join(parts)


def _name(checkpoint: Path) -> str:
    real = checkpoint.resolve()
    return f"{real.parent.name}/{real.name}" if real.name.isdigit() else real.name
