"""`openpi-flash convert-checkpoint`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from openpi_flash_server.commands.failure import one_line_errors


class Dtype(enum.StrEnum):
    """Types that weights can be written in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def convert_checkpoint(
    source: Annotated[
        str, typer.Argument(help="A checkpoint: a directory or a URL.", show_default=False)
    ],
    output: Annotated[Path, typer.Argument(help="The directory to write.", show_default=False)],
    *,
    dtype: Annotated[
        Dtype | None, typer.Option(help="Cast the weights; else they stay as they are.")
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="Take the horizon in config.json from this config.")
    ] = None,
    for_openpi: Annotated[
        bool,
        typer.Option(
            "--for-openpi",
            help="Add the unused output head that openpi's own PyTorch loader requires.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier result.")] = False,
) -> None:
    """Write a checkpoint in the other layout: params/ to model.safetensors, or back.

    LoRA adapters are merged. Statistics and tokenizers are copied along.
    """
    with one_line_errors():
        from openpi_flash_models.checkpoints.convert import convert
        from openpi_flash_models.config.named_configs import get_config
        from openpi_flash_models.downloads import fetch

        horizon = get_config(config).action_horizon if config else None
        layout = convert(
            fetch(source),
            output,
            dtype=dtype.value if dtype else None,
            expert_head=for_openpi,
            action_horizon=horizon,
            replace=force,
        )
    name = "params/" if layout == "orbax" else "model.safetensors"
    size = sum(file.stat().st_size for file in output.expanduser().rglob("*") if file.is_file())
    typer.echo(f"wrote {output}: {name}, {size / 1e6:.1f} MB")
