"""A thread that a slot cannot do without: its death is noticed."""

from __future__ import annotations

import threading
from collections.abc import Callable

from openpi_flash_server.logs.events import EventLogger

log = EventLogger(__name__)


def vital_thread(
    name: str, run: Callable[[], None], died: Callable[[str], None]
) -> threading.Thread:
    """A daemon thread, not started yet.

    Args:
        name: the thread's.
        run: what it does; it returns when the slot stops.
        died: is told, on the thread, that `run` raised, in words for `/healthz`.
    """

    def watched() -> None:
        try:
            run()
        except BaseException as error:
            log.error("thread died, restart the server", exception=error, thread=name)
            died(f"the thread {name} died: {type(error).__name__}: {error}")

    return threading.Thread(target=watched, name=name, daemon=True)
