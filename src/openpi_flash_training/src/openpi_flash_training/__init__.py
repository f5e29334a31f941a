"""From recordings to a served policy: datasets, statistics, training, evaluation."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("openpi_flash_training")
