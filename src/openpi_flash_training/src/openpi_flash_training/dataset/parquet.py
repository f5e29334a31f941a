"""Reads parquet files; errors name the file."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openpi_flash_training.episodes.error import DataError

MOST_OPEN = 16


class _OpenFiles(threading.local):
    def __init__(self) -> None:
        self.process = os.getpid()
        self.files: OrderedDict[Path, pq.ParquetFile] = OrderedDict()


_open_files = _OpenFiles()


def read_table(path: Path) -> pa.Table:
    """A whole parquet file.

    Raises:
        DataError: it is missing or broken.
    """
    try:
        return pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise DataError(path, "is missing") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(path, f"is not a parquet file, or a truncated one: {error}") from error


def read_rows(path: Path, start: int, length: int, columns: list[str] | None = None) -> pa.Table:
    """Some rows of a parquet file, reading no more than their row groups.

    Args:
        path: of the file.
        start: first row.
        length: number of rows.
        columns: which; None for all.

    Raises:
        DataError: the file is missing or broken, or lacks rows or columns.
    """
    try:
        file = _open(path)
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        ends = np.cumsum([0, *sizes])
        if start + length > ends[-1]:
            raise DataError(path, f"has {ends[-1]} rows, row {start + length - 1} is asked for")
        groups = [i for i in range(len(sizes)) if ends[i] < start + length and ends[i + 1] > start]
        table = file.read_row_groups(groups, columns=columns, use_threads=False)
    except FileNotFoundError:
        raise DataError(path, "is missing") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(path, f"is not a parquet file, or a truncated one: {error}") from error
    missing = sorted(set(columns or ()) - set(table.column_names))
    if missing:
        raise DataError(path, f"lacks the column {missing[0]}")
    return table.slice(start - int(ends[groups[0]]), length) if groups else table


def close_files() -> None:
    """Close this thread's open files, after files were replaced."""
    for file in _open_files.files.values():
        file.close()
    _open_files.files.clear()


def _open(path: Path) -> pq.ParquetFile:
    if _open_files.process != os.getpid():
        # a forked child shares file offsets with its parent, so it opens its own
        _open_files.process, _open_files.files = os.getpid(), OrderedDict()
    files = _open_files.files
    file = files.get(path)
    if file is None:
        file = files[path] = pq.ParquetFile(path, memory_map=True)
        if len(files) > MOST_OPEN:
            files.popitem(last=False)[1].close()
    files.move_to_end(path)
    return file
