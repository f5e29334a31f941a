"""A handler with two policies: that of the robots, and the shadow for copies of their requests."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from openpi_flash_server.slot.runner import (
    BatchHandler,
    FirstActionsHandler,
    Handler,
    Result,
    batch_key_by,
    max_batch_of,
)
from openpi_flash_server.slot.session import Session, ShadowSession
from openpi_flash_server.slot.work import Work


class ShadowingHandler:
    """Gives each work to the handler that it is for; the slot's scheduler decides when.

    Args:
        action: answers the robots.
        shadow: answers the copies.
    """

    def __init__(self, action: Handler, shadow: Handler) -> None:
        self._action = action
        self._shadow = shadow
        self._batch_key_by = {False: batch_key_by(action), True: batch_key_by(shadow)}

    def handle(self, work: Work) -> dict[str, Any]:
        """As the handler that the work is for."""
        return self._of(work.session).handle(work)

    def handle_with_first(
        self, work: Work, first: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """As the handler that the work is for, which may give no first actions."""
        handler = self._of(work.session)
        if isinstance(handler, FirstActionsHandler):
            return handler.handle_with_first(work, first)
        return handler.handle(work)

    @property
    def max_batch(self) -> int:
        """How many works of the robots a call takes."""
        return max_batch_of(self._action)

    def batch_key(self, work: Work) -> Hashable:
        """Works of the two handlers never share a call."""
        is_shadow = isinstance(work.session, ShadowSession)
        return is_shadow, self._batch_key_by[is_shadow](work)

    def handle_batch(self, works: Sequence[Work]) -> Sequence[Result]:
        """As `handle` for each work, in calls as large as the handler takes."""
        handler = self._of(works[0].session)
        most = max_batch_of(handler)
        results: list[Result] = []
        for first in range(0, len(works), most):
            part = works[first : first + most]
            if isinstance(handler, BatchHandler) and len(part) > 1:
                results += handler.handle_batch(part)
            else:
                results += [_result(handler, work) for work in part]
        return results

    def reset(self, session: Session) -> None:
        """Drops the state of `session`: of the robot's, and of its copy."""
        self._action.reset(session)
        self._shadow.reset(session)

    def _of(self, session: Session) -> Handler:
        return self._shadow if isinstance(session, ShadowSession) else self._action


def _result(handler: Handler, work: Work) -> Result:
    try:
        return handler.handle(work)
    except Exception as error:
        return error
