"""Compiled programs on disk, so that a restart does not compile again."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import jax

from openpi_flash_models.errors import DownloadError
from openpi_flash_models.files import expand_home

log = logging.getLogger(__name__)

VARIABLE = "OPENPI_FLASH_COMPILE_CACHE"


def use_compile_cache() -> Path | None:
    """Keep compiled programs on disk from now on; returns where, None if they are not kept.

    ``OPENPI_FLASH_COMPILE_CACHE`` names the directory, or is ``off``. Without it programs for
    accelerators are kept in the user's cache; those for CPUs are not, since they compile in
    seconds and run on one CPU model only. JAX's own ``JAX_COMPILATION_CACHE_DIR`` overrides both.
    """
    config: Any = jax.config
    if config.jax_compilation_cache_dir:
        return Path(config.jax_compilation_cache_dir)
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "off" or (not wanted and jax.default_backend() == "cpu"):
        return None
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        directory = expand_home(
            wanted or base / "openpi_flash" / "jax", instead=f"set {VARIABLE} to a directory"
        )
        directory.mkdir(parents=True, exist_ok=True)
    except (DownloadError, OSError) as error:
        # serve anyway: only starts are slower
        log.warning("compiled programs are not kept: %s", error)
        return None
    config.update("jax_compilation_cache_dir", str(directory))
    config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return directory
