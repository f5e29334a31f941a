"""Reads the estimates for one GPU out of the table that ``gpu_program.py`` writes."""

from __future__ import annotations

import re

TIMES = "ms estimated (before, each turn)"


def read_estimates(page: str, device: str) -> dict[str, float]:
    """Milliseconds by program.

    Args:
        page: docs/models.md, with the table between its markers.
        device: as its driver names it, such as ``NVIDIA H200``.

    Returns:
        Of each program the whole call; of programs with a loop also each turn, as
        ``PROGRAM, each turn``. Empty if the table has no such GPU.
    """
    begin, end = "<!-- gpu-program: begin -->", "<!-- gpu-program: end -->"
    rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in page.partition(begin)[2].partition(end)[0].splitlines()
        if line.startswith("|")
    ]
    if not rows or TIMES not in rows[0]:
        raise ValueError(f"no table with a column {TIMES!r} between {begin} and {end}")
    column = rows[0].index(TIMES)
    estimates: dict[str, float] = {}
    for row in rows[2:]:
        if not _is_of(row[0], device):
            continue
        program = row[1]
        whole, *of_loop = re.findall(r"[\d.]+", row[column])
        estimates[program] = float(whole)
        if of_loop:
            estimates[f"{program}, each turn"] = float(of_loop[-1])
    return estimates


def _is_of(gpu: str, device: str) -> bool:
    """Whether a name of the table is a device's: all its words are in it, in order."""
    return (
        re.search(r"\b" + r"\b.*\b".join(map(re.escape, gpu.split())) + r"\b", device) is not None
    )
