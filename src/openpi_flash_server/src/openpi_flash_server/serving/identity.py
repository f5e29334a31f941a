"""What a server is: versions and digests, for its clients and its operator."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from openpi_flash_server import __version__
from openpi_flash_server.config.digest import config_digest
from openpi_flash_server.config.server_config import ServerConfig
from openpi_flash_server.serving.metadata import PROTOCOL


def identity(config: ServerConfig) -> dict[str, Any]:
    """`mode`, `config_digest` and `versions` of a server with this configuration."""
    return {
        "mode": str(config.mode),
        "config_digest": config_digest(config),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of the server, its protocol, Python, and the libraries that compute."""
    found = {"server": __version__, "protocol": PROTOCOL, "python": platform.python_version()}
    for library in ("flash_transport", "numpy", "jax", "torch"):
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
