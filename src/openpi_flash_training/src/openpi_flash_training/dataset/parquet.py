"""Reads parquet files; errors name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openpi_flash_training.dataset.open_files import OpenFiles
from openpi_flash_training.episodes.error import DataError


class _ParquetFile:
    """An open file and where its row groups end."""

    def __init__(self, path: Path) -> None:
        self.file = pq.ParquetFile(path, memory_map=True, pre_buffer=False)
        metadata = self.file.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self.ends = np.cumsum([0, *sizes])

    def close(self) -> None:
        """Close it."""
        self.file.close()


# random frames come from all files, and one with 500 row groups takes 10 ms to open
_open_files = OpenFiles(_ParquetFile, most=64)


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
        open_file = _open_files.get(path)
        ends = open_file.ends
        if start + length > ends[-1]:
            raise DataError(path, f"has {ends[-1]} rows, row {start + length - 1} is asked for")
        first = int(np.searchsorted(ends, start, "right")) - 1
        last = int(np.searchsorted(ends, start + length))
        groups = list(range(first, last))
        table = open_file.file.read_row_groups(groups, columns=columns, use_threads=False)
    except FileNotFoundError:
        raise DataError(path, "is missing") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(path, f"is not a parquet file, or a truncated one: {error}") from error
    missing = sorted(set(columns or ()) - set(table.column_names))
    if missing:
        raise DataError(path, f"lacks the column {missing[0]}")
    return table.slice(start - int(ends[first]), length)
