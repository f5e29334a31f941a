"""What cells amount to, as lines of text. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from openpi_flash_training.evaluation.measures import NOTHING, Cell
from sim_robot.robot import COLOURS

_COLUMNS = (
    ("task", 6),
    ("prompts", 8),
    ("method", 18),
    ("delay/ms", 9),
    ("loss", 6),
    ("held", 6),
    ("success", 24),
    ("time/s", 8),
    ("jerk", 7),
    ("at borders", 11),
    ("holds", 6),
)


def table(cells: Sequence[Cell], policies: Sequence[str] = ()) -> list[str]:
    """One line for each cell below a line of titles; jerk in rad/s^3.

    Args:
        cells: at least one.
        policies: the name of each cell's policy, for a first column; empty: there is none.
    """
    # a name that is longer than the usual ones makes the column wider
    first = max(_COLUMNS[0][1], *(len(cell.task) + 1 for cell in cells))
    columns = [(_COLUMNS[0][0], first), *_COLUMNS[1:]]
    if policies:
        columns.insert(0, ("policy", max(7, *(len(name) + 1 for name in policies))))
    lines = ["".join(_padded(title, width) for title, width in columns).rstrip()]
    for index, cell in enumerate(cells):
        given = cell.conditions
        network = (given.delay_ms, given.loss, given.held)
        values = (
            *policies[index : index + 1],
            cell.task,
            "swapped" if cell.is_swapped else "plain",
            given.method,
            *("real" if given.is_real else f"{value:g}" for value in network),
            str(cell.success),
            _number(cell.seconds, 2),
            f"{cell.rms_jerk:.0f}",
            _number(cell.border_jerk, 0),
            f"{cell.holds:.1f}",
        )
        line = "".join(_padded(v, width) for v, (_, width) in zip(values, columns, strict=True))
        lines.append(line.rstrip())
    return lines


def details(cell: Cell) -> list[str]:
    """Stages of one cell, and colours where there are some."""
    stages = ", ".join(f"{name} {share.count}" for name, share in cell.stages.items())
    lines = [f"stages reached      {stages} of {cell.success.total}"]
    if not cell.confusion:
        return lines
    if cell.is_swapped:
        lines.append(f"the plain colour    {cell.plain_cube}")
    else:
        lines.append(f"by shuffled prompts {cell.shuffled}")
    if cell.subtasks.total:
        lines.append(f"subtasks agree      {cell.subtasks}")
    lines.append("prompt \\ chosen     " + "".join(f"{name:>9}" for name in (*COLOURS, NOTHING)))
    for colour, row in zip(COLOURS, cell.confusion, strict=True):
        lines.append(f"{colour:<20}" + "".join(f"{count:>9}" for count in row))
    return lines


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _padded(text: str, width: int) -> str:
    return text.ljust(width - 1)[: max(width - 1, len(text))] + " "
