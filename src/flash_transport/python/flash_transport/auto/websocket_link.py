"""The connection over WebSocket of a client that chooses: made and ended in the background."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from flash_transport.errors import Disconnected

__all__ = ["OpenSide", "WebsocketLink"]

if TYPE_CHECKING:
    # needs `websockets`, which may be missing
    from flash_transport.auto.websocket_side import WebsocketSide


class OpenSide(Protocol):
    """See `open_websocket`."""

    def __call__(self, *, had_no_tls: bool) -> WebsocketSide:
        """Connects; blocks."""


class WebsocketLink:
    """Connects when told to, once for each time, and tells when the connection is gone.

    Args:
        open_side: makes a connection; None where there is no fall-back.
        lock: held by the caller of each method, and while `note` is called.
        note: called with None when there is a connection, else with why there is none.

    Attributes:
        side: the connection, if there is one.
    """

    def __init__(
        self,
        open_side: OpenSide | None,
        lock: threading.Condition,
        note: Callable[[Exception | None], None],
    ) -> None:
        self.side: WebsocketSide | None = None
        self._open_side = open_side
        self._lock = lock
        self._note = note
        self._dial = 0
        """Number of the attempt that is wanted; 0: none is."""
        self._dials = 0
        self._had_no_tls = False

    def connect(self) -> None:
        """Begins to connect, if there is no connection and no attempt."""
        if self.side is None and not self._dial:
            self._dials += 1
            self._dial = self._dials
            _in_background(functools.partial(self._connect, self._dial))

    def hang_up(self) -> None:
        """Ends the connection, and the attempt to make one."""
        side = self.give_up()
        if side is not None:
            _in_background(side.close)

    def give_up(self) -> WebsocketSide | None:
        """As `hang_up`, but for the connection, which the caller closes."""
        side, self.side, self._dial = self.side, None, 0
        return side

    def _connect(self, dial: int) -> None:
        assert self._open_side is not None, "the choice has a fall-back"
        side: WebsocketSide | None = None
        error: Exception | None = None
        try:
            side = self._open_side(had_no_tls=self._had_no_tls)
        except Exception as failure:
            error = failure
        with self._lock:
            is_wanted = self._dial == dial
            if is_wanted:
                self._dial, self.side = 0, side
                self._had_no_tls = False
                if side is not None:
                    side.when_lost(self._take_loss)
                self._note(error)
        if side is not None and not is_wanted:
            side.close()

    def _take_loss(self, side: WebsocketSide) -> None:
        with self._lock:
            if self.side is not side:
                return
            self.side = None
            self._had_no_tls = not side.is_encrypted
            self._note(Disconnected("the connection was lost"))
        # ends what else waits for it
        _in_background(side.close)


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="flash-auto-websocket", daemon=True).start()
