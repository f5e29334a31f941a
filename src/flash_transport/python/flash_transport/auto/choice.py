"""Which transport carries requests: QUIC, or WebSocket where UDP does not get through. Pure.

As in RFC 8305 ("happy eyeballs"), the second way gets its chance before the first has failed: QUIC
is tried at once, WebSocket `HEAD_START_S` later, or as soon as an attempt over QUIC has failed.
Requests go over the first that is there, and over QUIC again when it works.

A UDP path that comes and goes must not take the requests with it each time. So each return to QUIC
after a failure takes twice as long without trouble as the one before, up to `LONGEST_TRIAL_S`; a
QUIC that has carried requests for `SETTLED_S` is trusted again. WebSocket stays open until then.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

__all__ = ["Link", "Transport", "TransportChoice"]

HEAD_START_S = 0.25
"""As RFC 8305 recommends between two attempts."""
SILENT_S = 1.5
"""A QUIC connection from which nothing came for so long, and five round trips more, is silent: its
client sends a keep-alive each second."""
SILENT_ROUND_TRIPS = 5
LOOK_AGAIN_S = 0.5
"""How often to see whether a silent connection is heard again."""
FIRST_TRIAL_S = 1.0
LONGEST_TRIAL_S = 60.0
SETTLED_S = 60.0
FIRST_PAUSE_S = 1.0
"""From one attempt over QUIC to the next, while WebSocket carries requests; doubles."""
LONGEST_PAUSE_S = 30.0


class Transport(enum.Enum):
    """A way to the server."""

    QUIC = "quic"
    WEBSOCKET = "websocket"


class Link(enum.Enum):
    """What is known of a connection."""

    DOWN = "down"
    CONNECTING = "connecting"
    UP = "up"
    SILENT = "silent"
    """It was up, and nothing has come from the server for too long."""


@dataclass(frozen=True)
class _Quic:
    """QUIC as it stands.

    Attributes:
        link: what is known of it.
        well_since: since when it is up without trouble.
        trouble: why it does not work, for people.
        next_try: when to try again; None: an attempt is under way, or none is due.
    """

    link: Link = Link.DOWN
    well_since: float = 0.0
    trouble: str = "the server has not answered yet"
    next_try: float | None = None


class TransportChoice:
    """Decides which transport is used, and which connections are wanted.

    The caller says what happens, each time with the time in seconds, and carries out `wants_quic`
    and `wants_websocket`. At `next_wakeup` it calls `quic_heard`, if QUIC is up, and `tick`.

    Args:
        has_fallback: whether WebSocket may be used at all.
        patience_s: how long after the last request for a connection to try to make one.

    Attributes:
        carrier: the transport of requests; None while no connection is there.
        reason: why it is that one, for people.
    """

    def __init__(self, *, has_fallback: bool = True, patience_s: float = 10.0) -> None:
        self.carrier: Transport | None = None
        self.reason = ""
        self._has_fallback = has_fallback
        self._patience_s = patience_s
        self._wanted_until = 0.0
        self._quic = _Quic()
        self._websocket = Link.DOWN
        self._websocket_from: float | None = None
        """When to begin to connect over WebSocket, while it is down."""
        self._carries_since: float | None = None
        """Since when QUIC carries requests."""
        self._trial_s = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._look_again: float | None = None
        """When to say how long ago the server was heard over QUIC."""

    @property
    def wants_quic(self) -> bool:
        """Whether to try to connect over QUIC."""
        return self._quic.link is Link.CONNECTING

    @property
    def wants_websocket(self) -> bool:
        """Whether to connect over WebSocket, or to keep the connection that is open."""
        return self._websocket is not Link.DOWN

    @property
    def quic_trouble(self) -> str:
        """Why QUIC does not work; empty if it does."""
        return "" if self._quic.link is Link.UP else self._quic.trouble

    def begin(self, now: float) -> None:
        """A request waits for a connection."""
        self._wanted_until = now + self._patience_s
        if self.carrier is None and self._quic.link is Link.DOWN and self._quic.next_try is None:
            self._websocket_from = None
            self._try_quic(now)
        self.tick(now)

    def quic_is_up(self, now: float) -> None:
        """A connection over QUIC has been made, or is heard again."""
        if self._quic.link is not Link.UP:
            self._quic = _Quic(Link.UP, well_since=now, trouble="")
        self.tick(now)

    def quic_failed(self, now: float, reason: str, pause_s: float | None = 0.0) -> None:
        """An attempt over QUIC has failed, or its connection has ended.

        Args:
            now: the time.
            reason: for people.
            pause_s: until another attempt, while no connection is there; None: there is none
                before the next request, because it would fail, too.
        """
        if self._quic.link is Link.DOWN:
            return
        was_up = self._quic.link in (Link.UP, Link.SILENT)
        if was_up and self.carrier is Transport.WEBSOCKET:
            # it did not last until requests were given to it
            self._lengthen_trial()
        next_try = None if pause_s is None else now + pause_s
        if self.carrier is Transport.WEBSOCKET:
            next_try = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        elif was_up:
            self._leave_quic(now)
        elif pause_s is None:
            self._websocket_from = None
        else:
            # what refuses need not be waited for
            self._websocket_from = now if self._websocket_from is None else self._websocket_from
            self._websocket_from = min(self._websocket_from, now)
        self._quic = _Quic(trouble=reason, next_try=next_try)
        self._look_again = None
        self.tick(now)

    def quic_heard(self, now: float, quiet_s: float, round_trip_s: float) -> None:
        """The connection over QUIC is up, and `quiet_s` ago something came from the server."""
        longest_s = SILENT_S + SILENT_ROUND_TRIPS * round_trip_s
        is_silent = quiet_s >= longest_s
        self._look_again = now + (LOOK_AGAIN_S if is_silent else longest_s - quiet_s)
        if not is_silent:
            self.quic_is_up(now)
        elif self._quic.link is Link.UP:
            reason = f"nothing has come from the server for {quiet_s:.1f} s"
            self._quic = _Quic(Link.SILENT, trouble=reason)
            self._websocket_from = now
            self.tick(now)

    def websocket_is_up(self, now: float) -> None:
        """A connection over WebSocket has been made."""
        if self._websocket is Link.CONNECTING:
            self._websocket = Link.UP
        self.tick(now)

    def websocket_failed(self, now: float) -> None:
        """WebSocket cannot be reached, or no longer: then both are tried at once."""
        was_up = self._websocket is Link.UP
        if self.carrier is Transport.WEBSOCKET:
            self.carrier = None
            self._wanted_until = now + self._patience_s
            self._quic = replace(self._quic, next_try=None if self._is_trying else now)
        self._websocket = Link.DOWN
        self._websocket_from = now if was_up else now + FIRST_PAUSE_S
        self.tick(now)

    def tick(self, now: float) -> None:
        """Does what is due."""
        if self.carrier is None and now >= self._wanted_until:
            self._rest()
        if self._quic.next_try is not None and self._quic.next_try <= now:
            self._try_quic(now)
        due = self._websocket_from
        if self._may_try_websocket and due is not None and due <= now:
            self._websocket = Link.CONNECTING
        self._choose(now)
        self._settle(now)

    def next_wakeup(self) -> float | None:
        """When something is due without an event: `tick`, or `quic_heard` if that is up."""
        times = [self._quic.next_try, self._look_again]
        if self._may_try_websocket:
            times.append(self._websocket_from)
        if self.carrier is None and (self._is_trying or self.wants_websocket):
            times.append(self._wanted_until)
        if self.carrier is Transport.WEBSOCKET and self._quic.link is Link.UP:
            times.append(self._quic.well_since + self._trial_s)
        if self._is_settling and self._carries_since is not None:
            times.append(self._carries_since + SETTLED_S)
        return min((at for at in times if at is not None), default=None)

    @property
    def _is_trying(self) -> bool:
        return self._quic.link is not Link.DOWN

    @property
    def _may_try_websocket(self) -> bool:
        """Whether WebSocket is needed and not there: QUIC does not work."""
        return (
            self._has_fallback and self._websocket is Link.DOWN and self._quic.link is not Link.UP
        )

    @property
    def _is_settling(self) -> bool:
        """Whether QUIC works, after it has not."""
        return self._quic.link is Link.UP and (self._trial_s > 0 or self.wants_websocket)

    def _try_quic(self, now: float) -> None:
        self._quic = replace(self._quic, link=Link.CONNECTING, next_try=None)
        if self.carrier is None and self._websocket_from is None:
            self._websocket_from = now + HEAD_START_S

    def _rest(self) -> None:
        """No request has wanted a connection for long: none is made before the next one does."""
        if self._quic.link is Link.CONNECTING:
            self._quic = replace(self._quic, link=Link.DOWN)
        self._quic = replace(self._quic, next_try=None)
        self._websocket, self._websocket_from = Link.DOWN, None

    def _choose(self, now: float) -> None:
        quic = self._quic
        if self.carrier is Transport.QUIC:
            if quic.link is Link.UP and self._websocket is not Link.UP:
                self._websocket, self._websocket_from = Link.DOWN, None
            if quic.link is not Link.SILENT or self._websocket is not Link.UP:
                return
            self._leave_quic(now)
        if self.carrier is None and quic.link is Link.UP:
            self._use_quic(now, "it answered first")
        elif self.carrier is None and self._websocket is Link.UP:
            self.carrier, self.reason = Transport.WEBSOCKET, f"over QUIC {quic.trouble}"
            self._pause_s = FIRST_PAUSE_S
        elif (
            self.carrier is Transport.WEBSOCKET
            and quic.link is Link.UP
            and quic.well_since + self._trial_s <= now
        ):
            self._use_quic(now, "it works again")

    def _use_quic(self, now: float, reason: str) -> None:
        self.carrier, self.reason = Transport.QUIC, reason
        self._carries_since, self._websocket_from = now, None
        if self._websocket is Link.CONNECTING:
            self._websocket = Link.DOWN

    def _leave_quic(self, now: float) -> None:
        """QUIC no longer carries requests."""
        self.carrier = None
        self._wanted_until = now + self._patience_s
        if self._carries_since is not None and now - self._carries_since >= SETTLED_S:
            self._trial_s = 0.0
        self._lengthen_trial()
        self._carries_since = None
        if self._websocket_from is None:
            self._websocket_from = now + HEAD_START_S

    def _lengthen_trial(self) -> None:
        self._trial_s = min(max(2 * self._trial_s, FIRST_TRIAL_S), LONGEST_TRIAL_S)

    def _settle(self, now: float) -> None:
        since = self._carries_since
        if self._is_settling and since is not None and now - since >= SETTLED_S:
            self._trial_s, self._websocket = 0.0, Link.DOWN
