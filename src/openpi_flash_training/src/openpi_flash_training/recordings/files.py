"""Reads whole files of a recording; errors name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from openpi_flash_training.episodes.error import DataError


def read_json_file(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(path, f"is not JSON that can be read: {error}") from error


def read_parquet_file(path: Path) -> pa.Table:
    """Read a parquet file.

    Raises:
        DataError: it cannot be read, or is not parquet.
    """
    try:
        return pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise DataError(path, f"is not a parquet file, or a truncated one: {error}") from error
