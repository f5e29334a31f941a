"""A listener that is told of the robots' requests alone."""

from __future__ import annotations

from collections.abc import Callable

from openpi_flash_server.slot.events import Event
from openpi_flash_server.slot.session import ShadowSession


def without_shadows(listener: Callable[[Event], None]) -> Callable[[Event], None]:
    """Keeps the events of copied requests from `listener`: they are no robot's requests."""

    def tell(event: Event) -> None:
        # a slot's own event has no session
        if not isinstance(getattr(event, "session", None), ShadowSession):
            listener(event)

    return tell
