"""Builds checkpoints from parts that are published separately."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from openpi_flash_models.checkpoints.archive import unpack
from openpi_flash_models.checkpoints.build import building, read_manifest
from openpi_flash_models.checkpoints.layout import PARAMS, lazy_leaves
from openpi_flash_models.checkpoints.orbax import METADATA_FILE
from openpi_flash_models.checkpoints.shards import MODEL_FILE
from openpi_flash_models.downloads import cached, fetch
from openpi_flash_models.downloads.install import MANIFEST as NOTES
from openpi_flash_models.errors import CheckpointError
from openpi_flash_models.transforms.norm_stats import read_norm_stats


def prepare_checkpoint(
    model_id: str, assets_uri: str, output: Path, *, asset_id: str, force: bool = False
) -> bool:
    """Put weights of the Hugging Face hub and openpi's statistics into one directory.

    Args:
        model_id: ``ORG/REPO[@REVISION]`` with ``config.json`` and ``model.safetensors``.
        assets_uri: where the statistics are.
        output: a new directory, or one that this function made: missing parts are then added.
        asset_id: the statistics that are required.
        force: download everything again.

    Returns:
        Whether there was anything to do.

    Raises:
        CheckpointError: no such model, an incomplete checkpoint was fetched, or ``output`` is
            occupied.
        DownloadError: a part could not be fetched.
    """
    if len(model_id.split("/")) != 2:
        raise CheckpointError(f"{model_id!r} is no model of the hub: expected ORG/REPO[@REVISION]")
    manifest = {
        "made_by": "openpi-flash prepare-checkpoint",
        "model_id": model_id,
        "openpi_assets_uri": assets_uri,
    }
    if not force and read_manifest(output) == manifest and _is_whole(output, asset_id):
        return False
    with building(output, manifest, replace=True) as directory:
        for name in ("config.json", MODEL_FILE):
            _place(fetch(f"hf://{model_id}/{name}", force=force), directory / name)
        assets = fetch(assets_uri, force=force)
        shutil.copytree(assets, directory / "assets", ignore=shutil.ignore_patterns(NOTES))
        lazy_leaves(directory)
        read_norm_stats(directory, asset_id)
    return True


def prepare_planner_checkpoint(
    repository: str, archive: str, output: Path, *, force: bool = False
) -> bool:
    """Unpack a planner's checkpoint from an archive on the Hugging Face hub.

    Args:
        repository: ``ORG/REPO[@REVISION]``.
        archive: path of a tar file in it, of a checkpoint or of one directory that is one.
        output: a new directory, or one that this function made.
        force: download it again.

    Returns:
        Whether there was anything to do.

    Raises:
        CheckpointError: the archive holds no checkpoint, or ``output`` is occupied.
        DownloadError: the archive could not be fetched.
    """
    manifest = {
        "made_by": "openpi-flash prepare-planner-checkpoint",
        "hf_repo": repository,
        "tar_path_in_repo": archive,
    }
    is_there = (output / PARAMS / METADATA_FILE).is_file()
    if not force and is_there and read_manifest(output) == manifest:
        return False
    url = f"hf://{repository}/{archive}"
    was_cached = cached(url).exists()
    with building(output, manifest, replace=True) as directory:
        file = fetch(url, force=force)
        unpack(file, directory)
        _lift(directory, file)
        lazy_leaves(directory)
    if not was_cached:
        file.unlink()  # it is unpacked; an archive that was in the cache before stays
    return True


def _is_whole(directory: Path, asset_id: str) -> bool:
    try:
        lazy_leaves(directory)
        read_norm_stats(directory, asset_id)
    except CheckpointError:
        return False
    return True


def _place(source: Path, target: Path) -> None:
    """Put the file in a second place, by a hard link where the disk allows."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def _lift(directory: Path, file: Path) -> None:
    """Move a checkpoint up if the archive has it inside one directory."""
    tops = [path for path in directory.iterdir() if not path.name.startswith(".")]
    if not (directory / PARAMS).is_dir() and len(tops) == 1 and tops[0].is_dir():
        top = tops[0].rename(directory / ".top")  # it may hold an entry of its own name
        for path in top.iterdir():
            path.rename(directory / path.name)
        top.rmdir()
    if not (directory / PARAMS / METADATA_FILE).is_file():
        names = ", ".join(sorted(path.name for path in directory.iterdir())[:8])
        raise CheckpointError(f"{file} holds no {PARAMS}/{METADATA_FILE}: it has {names}")
