"""What a connection without first actions answers where they are asked for."""

from __future__ import annotations

from typing import Any

from flash_transport import InferenceFuture, ServerError


class WholeChunks:
    """The part of a policy's connection that gives whole chunks only, over no link."""

    @property
    def link_estimate(self) -> None:
        """Nothing is measured."""
        return None

    def submit(
        self,
        observation: dict[str, Any],
        timeout: float | None = None,
        *,
        first_actions: int | None = None,
    ) -> InferenceFuture:
        """Refused: first actions are only asked of servers that say that they give them.

        Raises:
            ServerError: always.
        """
        del observation, timeout, first_actions
        raise ServerError("bad_request", "there are no first actions ahead of a chunk")
