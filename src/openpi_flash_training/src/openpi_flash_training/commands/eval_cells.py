"""What `openpi-flash eval` prints of its trials, and whether it is enough."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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


def check_gate(cells: Mapping[str, Sequence[Cell]], at_least: float) -> None:
    """Ends the command with status 1 if success is lower in any cell of plain prompts."""
    plain = [(name, cell) for name, own in cells.items() for cell in own if not cell.is_swapped]
    name, worst = min(plain, key=lambda one: one[1].success.value)
    if worst.success.value < at_least:
        whose = f"{name}: " if len(cells) > 1 else ""
        typer.echo(f"error: {whose}{worst.task}: {worst.success} is below {at_least:g}", err=True)
        raise typer.Exit(1)
