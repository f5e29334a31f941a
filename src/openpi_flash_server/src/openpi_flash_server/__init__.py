"""The GPU side of openpi-flash: slots, transports, configuration, the `openpi-flash` command."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("openpi_flash_server")
