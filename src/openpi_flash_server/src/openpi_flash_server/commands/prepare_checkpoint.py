"""`openpi-flash prepare-checkpoint` and `prepare-planner-checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openpi_flash_server.commands.failure import one_line_errors

_Force = Annotated[
    bool,
    typer.Option("--force-download", help="Download again, and replace what this command made."),
]


def prepare_checkpoint(
    model_id: Annotated[
        str, typer.Option(help="Weights on the Hugging Face hub: ORG/REPO[@REVISION].")
    ] = "lerobot/pi05_base",
    openpi_assets_uri: Annotated[
        str, typer.Option(help="Where the statistics are.")
    ] = "gs://openpi-assets/checkpoints/pi05_base/assets",
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Where to; default pi05_base_openpi in OPENPI_DATA_HOME."),
    ] = None,
    force_download: _Force = False,
    required_asset_id: Annotated[
        str, typer.Option(help="The statistics that are required.")
    ] = "trossen",
) -> None:
    """Put weights from the Hugging Face hub and openpi's statistics into one checkpoint.

    Existing parts are checked; missing or broken parts are made again.
    """
    with one_line_errors():
        from openpi_flash_models.checkpoints.prepare import prepare_checkpoint as prepare
        from openpi_flash_models.downloads import cache_root

        output = output_dir or cache_root() / "pi05_base_openpi"
        made = prepare(
            model_id,
            openpi_assets_uri,
            output,
            asset_id=required_asset_id,
            force=force_download,
        )
    typer.echo(f"{'wrote' if made else 'nothing to do:'} {output}")


def prepare_planner_checkpoint(
    hf_repo: Annotated[
        str, typer.Option(help="Repository on the Hugging Face hub: ORG/REPO[@REVISION].")
    ] = "Hebbian-Robotics/pi05_subtask",
    tar_path_in_repo: Annotated[
        str, typer.Option(help="The archive in it.")
    ] = "jax/pi05_subtask.tar",
    output_dir: Annotated[
        Path | None, typer.Option(help="Where to; default pi05_subtask in OPENPI_DATA_HOME.")
    ] = None,
    force_download: _Force = False,
) -> None:
    """Unpack a planner's checkpoint from an archive on the Hugging Face hub."""
    with one_line_errors():
        from openpi_flash_models.checkpoints.prepare import (
            prepare_planner_checkpoint as prepare,
        )
        from openpi_flash_models.downloads import cache_root

        output = output_dir or cache_root() / "pi05_subtask"
        made = prepare(hf_repo, tar_path_in_repo, output, force=force_download)
    typer.echo(f"{'wrote' if made else 'nothing to do:'} {output}")
