"""The safetensors file format: a header in JSON, then the tensors' bytes.

    u64 length of the header | header | bytes          (huggingface/safetensors, README "Format")

The header maps names to ``{"dtype", "shape", "data_offsets"}``, and ``__metadata__`` to a table of
strings. Every byte belongs to exactly one tensor. The file is mapped into memory, and copied pages
are released, so that reading a file needs no more memory than the result.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import ml_dtypes
import numpy as np

from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.files import refuse_lfs_pointer

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_MAX_HEADER = 100_000_000
_BLOCK = 2**20
_LONGEST_START = 64
_MAX_AXES = 64
_MAX_SIZE = 2**63 - 1
_LONGEST_QUOTE = 200


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor is in the file.

    Attributes:
        dtype: as the file spells it; may be missing from ``DTYPES``.
        shape: of the tensor.
        start: first byte, from the start of the file.
        stop: one past the last byte.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class TensorFile:
    """A file open for reading.

    Attributes:
        path: of the file.
        tensors: what it holds.
        metadata: the strings its writer left.

    Raises:
        CheckpointError: it is not a safetensors file, or an incomplete one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # reading a pipe would block
                raise CheckpointError(f"{path} is not a regular file")
            with path.open("rb") as file:
                start = file.read(_LONGEST_START)
                refuse_lfs_pointer(path, start)
                file.seek(8)
                self.tensors, self.metadata = _read_header(path, start[:8], file, status.st_size)
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._map.close()

    def dtype(self, name: str) -> np.dtype[Any]:
        """The numpy type of a tensor.

        Raises:
            CheckpointError: numpy has none, or it is not a floating one.
        """
        entry = self.tensors[name]
        if entry.dtype not in DTYPES:
            raise CheckpointError(
                f"{self.path}: tensor {name} is {entry.dtype}, expected one of {', '.join(DTYPES)}"
            )
        return DTYPES[entry.dtype]

    def copy_into(self, target: np.ndarray, name: str) -> None:
        """Copy a tensor, cast to the target's type, with one block in memory at a time.

        Args:
            target: as many elements as the tensor, of any strides; its shape says how the
                tensor's axes are split.
            name: of the tensor.
        """
        entry, dtype = self.tensors[name], self.dtype(name)
        rows = target.shape[0] if target.ndim else 1
        row = (entry.stop - entry.start) // max(rows, 1)
        step = max(1, _BLOCK // max(row, 1))
        whole = target if target.ndim else target.reshape(1)
        for first in range(0, rows, step):
            block = whole[first : first + step]
            start = entry.start + first * row
            values = np.frombuffer(self._map, dtype, block.size, start)
            block[...] = values.reshape(block.shape)
            del values
            self._give_back(start, start + block.size * dtype.itemsize)

    def _give_back(self, start: int, stop: int) -> None:
        if hasattr(self._map, "madvise"):
            # The system also maps the pages around touched ones: release whole blocks.
            first = start - start % _BLOCK
            last = min(stop + -stop % _BLOCK, len(self._map))
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)


def write_tensor_file(
    path: Path,
    entries: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    blocks: Iterator[tuple[str, np.ndarray | None]],
    metadata: Mapping[str, str],
) -> None:
    """Write a file atomically.

    Args:
        path: the file, which is replaced.
        entries: type and shape of every tensor, in the order of the file.
        blocks: the tensors in the same order; None stands for zeros, which take no disk space.
        metadata: strings for the header.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, (dtype, shape) in entries.items():
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        header[name] = {
            "dtype": _DTYPE_NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("xb") as file:
            file.write(len(text).to_bytes(8, "little"))
            file.write(text)
            for name, values in blocks:
                dtype, shape = entries[name]
                if values is None:
                    file.seek(dtype.itemsize * int(np.prod(shape, dtype=np.int64)), os.SEEK_CUR)
                    continue
                if values.dtype != dtype or values.shape != shape:
                    raise ValueError(f"{name}: {values.dtype}{values.shape} differs from its entry")
                file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
            file.truncate(8 + len(text) + position)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _read_header(
    path: Path, length_bytes: bytes, file: Any, file_size: int
) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    length = int.from_bytes(length_bytes, "little")
    if len(length_bytes) < 8 or length > _MAX_HEADER or 8 + length > file_size:
        raise CheckpointError(
            f"{path} is not a safetensors file: its header of {length} bytes does not fit "
            f"into {file_size} bytes"
        )
    try:
        header = json.loads(file.read(length), parse_constant=_refuse_constant)
        metadata = {str(k): str(v) for k, v in header.pop("__metadata__", {}).items()}
        tensors = {name: _parse_entry(entry, 8 + length) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error!r}") from error
    position = 8 + length
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != position:
            raise CheckpointError(f"{path}: tensor {name} does not follow the one before it")
        position = entry.stop
    if position != file_size:
        raise CheckpointError(
            f"{path} has {file_size} bytes, its header describes {position}: "
            + ("it was copied in part" if file_size < position else "the rest belongs to no tensor")
        )
    return tensors, metadata


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _parse_entry(entry: Mapping[str, Any], base: int) -> TensorEntry:
    dtype, shape = entry["dtype"], entry["shape"]
    start, stop = entry["data_offsets"]
    if not isinstance(dtype, str) or not isinstance(shape, list) or len(shape) > _MAX_AXES:
        raise ValueError(f"no dtype and shape: {_shortened(entry)}")
    # bounded before they are multiplied: numbers of thousands of digits take minutes
    if not all(type(n) is int and 0 <= n <= _MAX_SIZE for n in (*shape, start, stop)):
        raise ValueError(f"not sizes: {_shortened(entry)}")
    size = math.prod(shape)
    if dtype in DTYPES and stop - start != size * DTYPES[dtype].itemsize:
        raise ValueError(f"a {dtype} tensor of shape {list(shape)} in {stop - start} bytes")
    return TensorEntry(dtype, tuple(shape), base + start, base + stop)


def _shortened(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"
