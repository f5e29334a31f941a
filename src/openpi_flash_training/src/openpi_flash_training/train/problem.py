"""The errors of training."""

from __future__ import annotations


class SettingsError(ValueError):
    """A training configuration that cannot be used; names the field."""


class TrainingError(RuntimeError):
    """Training that cannot go on: the loss is not finite."""
