"""Refuses requests for another checkpoint than the one that answers."""

from __future__ import annotations

from openpi_flash_models.checkpoints.digest import CheckpointIdentity
from openpi_flash_models.errors import ObservationError
from openpi_flash_server.slot.work import Work


def refuse_other_artifact(work: Work, checkpoint: CheckpointIdentity | None) -> None:
    """Checks the request's `expected_artifact`, if it has one.

    Args:
        work: the request.
        checkpoint: which weights answer; None for a model without weights.

    Raises:
        ObservationError: the client expects other weights.
    """
    expected = work.expected_artifact
    if expected is None or (checkpoint is not None and expected == checkpoint.digest):
        return
    answers = "a model without a checkpoint" if checkpoint is None else checkpoint.digest
    raise ObservationError(
        "expected_artifact", f"expected {expected}, but {answers} answers on this server"
    )
