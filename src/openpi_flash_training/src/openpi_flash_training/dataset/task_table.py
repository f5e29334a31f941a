"""``meta/tasks.parquet``: the tasks in words and their indices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from openpi_flash_training.dataset.layout import TASKS, whole_file
from openpi_flash_training.dataset.parquet import read_table
from openpi_flash_training.episodes.error import DataError


def write_tasks(folder: Path, tasks: Sequence[str]) -> None:
    """Write the tasks; their order is their index."""
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": list(tasks)})
    # lerobot reads the file by pandas and takes the task from the table's index
    metadata = {"pandas": json.dumps(_PANDAS)}
    with whole_file(folder / TASKS) as partial:
        pq.write_table(table.replace_schema_metadata(metadata), partial)


def read_tasks(folder: Path) -> tuple[str, ...]:
    """The tasks by index.

    Raises:
        DataError: the file is missing or not one of tasks.
    """
    path = folder / TASKS
    table = read_table(path)
    words = [c for c in table.column_names if pa.types.is_string(table.schema.field(c).type)]
    words += [c for c in table.column_names if pa.types.is_large_string(table.schema.field(c).type)]
    if "task_index" not in table.column_names or len(words) != 1:
        raise DataError(path, f"has the columns {table.column_names}, not task and task_index")
    tasks = dict(zip(table["task_index"].to_pylist(), table[words[0]].to_pylist(), strict=True))
    if sorted(tasks) != list(range(len(tasks))):
        raise DataError(path, f"has the indices {sorted(tasks)}, not 0 to {len(tasks) - 1}")
    return tuple(str(tasks[index]) for index in range(len(tasks)))


_PANDAS = {
    "index_columns": ["task"],
    "column_indexes": [
        {
            "name": None,
            "field_name": None,
            "pandas_type": "unicode",
            "numpy_type": "object",
            "metadata": {"encoding": "UTF-8"},
        }
    ],
    "columns": [
        {
            "name": "task_index",
            "field_name": "task_index",
            "pandas_type": "int64",
            "numpy_type": "int64",
            "metadata": None,
        },
        {
            "name": "task",
            "field_name": "task",
            "pandas_type": "unicode",
            "numpy_type": "object",
            "metadata": None,
        },
    ],
    "creator": {"library": "pyarrow", "version": pa.__version__},
    "pandas_version": "2.0.0",
}
