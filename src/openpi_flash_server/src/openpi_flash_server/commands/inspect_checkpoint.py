"""`openpi-flash inspect-checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openpi_flash_server.commands.failure import one_line_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openpi_flash_models.checkpoints.inspect import Report

_LABEL = 12


def inspect_checkpoint(
    checkpoint: Annotated[
        str, typer.Argument(help="A checkpoint: a directory or a URL.", show_default=False)
    ],
    robot_file: Annotated[
        list[Path] | None,
        typer.Option(help="A file that adds robots; may be given again.", metavar="<path>"),
    ] = None,
) -> None:
    """Say what a checkpoint is: model, sizes, types, statistics, and which configs can serve it."""
    with one_line_errors():
        from openpi_flash_models.checkpoints.inspect import inspect
        from openpi_flash_models.config.robot_file import add_robot_file
        from openpi_flash_models.downloads import fetch

        for file in robot_file or []:
            add_robot_file(file)
        report = inspect(fetch(checkpoint))
    for line in lines(report):
        typer.echo(line)


def lines(report: Report) -> Iterator[str]:
    """The report as text."""
    from openpi_flash_models.model.shape import MODEL_NAMES

    shape = report.shape
    where = "params/ (Orbax)" if report.layout == "orbax" else "model.safetensors"
    yield _row("checkpoint", f"{report.directory}, {where}")
    yield _row("model", f"{MODEL_NAMES[shape.kind]}, {_count(report.parameters)} parameters")
    types = ", ".join(f"{name} ({n} tensors)" for name, n in sorted(report.dtypes.items()))
    yield _row("stored as", f"{types}, {report.nbytes / 1e6:,.1f} MB")
    if report.lora_tensors:
        yield _row("LoRA", f"{report.lora_tensors} adapter tensors, merged when it is loaded")
    yield _row(
        "vision",
        f"{shape.vision_depth} layers, {shape.vision_width} wide, {shape.vision_heads} heads, "
        f"patches of {shape.patch}",
    )
    yield _row(
        "language",
        f"{shape.depth} layers, {shape.width} wide, {shape.heads} heads x {shape.head_width}, "
        f"vocabulary {shape.vocabulary}",
    )
    if shape.expert_width:
        yield _row("actions", f"expert {shape.expert_width} wide, {shape.action_dim} dimensions")
    yield _row("tokenizer", str(report.tokenizer or "none: not here, not in the cache"))
    yield from _statistics(report)
    yield _row("configs", ", ".join(report.configs) or "none of the named configs fits")


def _statistics(report: Report) -> Iterator[str]:
    from openpi_flash_models.config.named_configs import CONFIGS

    if not report.stats:
        yield _row("statistics", "none: an action policy needs assets/<asset id>/norm_stats.json")
        return
    width = max(len("asset id"), *(len(stats.asset_id) for stats in report.stats))
    head = f"{'asset id':{width}}  state  actions  percentiles  robots"
    yield _row("statistics", head)
    for stats in report.stats:
        robots = sorted({c.robot.name for c in CONFIGS.values() if c.asset_id == stats.asset_id})
        has = "yes" if stats.has_quantiles else "no"
        row = f"{stats.asset_id:{width}}  {stats.state:5}  {stats.actions:7}  {has:11}  "
        yield _row("", (row + (", ".join(robots) or "-")).rstrip())
        if stats.problem:
            yield _row("", f"  {stats.problem}")


def _row(label: str, text: str) -> str:
    return f"{label:{_LABEL}}{text}"


def _count(number: int) -> str:
    for unit, size in (("billion", 1e9), ("million", 1e6)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return str(number)
