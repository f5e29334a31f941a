"""What `openpi-flash eval` prints of its trials, and whether it is enough."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from openpi_flash_training.evaluation.conditions import Conditions
    from openpi_flash_training.evaluation.measures import Cell
    from openpi_flash_training.evaluation.trial_result import TrialResult


def cells_of(results: Sequence[TrialResult]) -> list[Cell]:
    """The cells of one policy, in the order of its trials."""
    from openpi_flash_training.evaluation.measures import cell_of

    groups: dict[tuple[str, Conditions, bool], list[TrialResult]] = {}
    for result in results:
        trial = result.trial
        groups.setdefault((trial.task, trial.conditions, trial.is_swapped), []).append(result)
    return [cell_of(group) for group in groups.values()]


def print_cells(seed: int, cells: Mapping[str, Sequence[Cell]], *, as_json: bool) -> None:
    """The table of all policies, by name; each cell in full where there are few."""
    from openpi_flash_training.evaluation.measures import as_json as cell_as_json
    from openpi_flash_training.evaluation.text_table import details, table

    if as_json:
        policies = [
            {"policy": name, "cells": [cell_as_json(cell) for cell in own]}
            for name, own in cells.items()
        ]
        found = policies[0] if len(policies) == 1 else {"policies": policies}
        typer.echo(json.dumps({"seed": seed, **found}, indent=2))
        return
    rows = [(name, cell) for name, own in cells.items() for cell in own]
    names = [name for name, _ in rows] if len(cells) > 1 else []
    for line in table([cell for _, cell in rows], names):
        typer.echo(line)
    if len(rows) <= 4:
        for name, cell in rows:
            typer.echo("")
            whose = f"{name}: " if names else ""
            typer.echo(f"{whose}{cell.task}, {'swapped' if cell.is_swapped else 'plain'} prompts")
            for line in details(cell):
                typer.echo(line)


@dataclass(frozen=True)
class Gate:
    """What is enough; None: anything.

    Attributes:
        plain: least success in any cell of plain prompts, 0 to 1.
        swapped: the same of prompts that name the next colour.
        old_colour: most of those in which the arm goes to the plain trial's cube all the same.
    """

    plain: float | None = None
    swapped: float | None = None
    old_colour: float | None = None

    def check(self, cells: Mapping[str, Sequence[Cell]]) -> None:
        """Say each cell that is not enough, and end the command with status 1 if there is one."""
        faults = []
        for name, own in cells.items():
            whose = f"{name}: " if len(cells) > 1 else ""
            faults += [f"{whose}{cell.task}{fault}" for cell in own for fault in self._faults(cell)]
        for fault in faults:
            typer.echo(f"error: {fault}", err=True)
        if faults:
            raise typer.Exit(1)

    def _faults(self, cell: Cell) -> Iterator[str]:
        least = self.swapped if cell.is_swapped else self.plain
        of = " with the next colour in the prompt" if cell.is_swapped else ""
        if least is not None and cell.success.value < least:
            yield f"{of}: {cell.success} is below {least:g}"
        most = self.old_colour
        if cell.is_swapped and most is not None and cell.plain_cube.value > most:
            yield f"{of}: the old colour {cell.plain_cube} is above {most:g}"
