"""What can go wrong with a policy that is not ours.

PolicyLoadError    the operator named one that cannot be made, or that describes itself wrongly
PolicyCallError    it raised, or did not answer a chunk of actions
"""

from __future__ import annotations

from openpi_flash_models.errors import ModelOutputError


class PolicyLoadError(Exception):
    """The policy cannot be imported or made, or its `metadata` cannot be used."""


class PolicyCallError(ModelOutputError):
    """The policy raised on a request, or its answer is no chunk of actions."""
