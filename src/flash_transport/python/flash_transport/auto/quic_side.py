"""QUIC for a client that chooses: connects when told to, and gives back what it did not begin."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from flash_transport._implementation import PURE_REASON, implementation
from flash_transport.first_actions import FIRST_ACTIONS_KEY, FirstActions
from flash_transport.futures import InferenceFuture

if TYPE_CHECKING:
    from flash_transport._native import PackedRequest

__all__ = ["NoQuic", "QuicSide", "Standing", "quic_side"]

ATTEMPT_S = 3.0
"""For each attempt: UDP that works again is found by the next one."""
DEADLINE_KEY = "deadline_ms"

Standing = tuple[int, str, str, Exception | None, tuple[float, float] | None]
"""See `TransportClient.standing`."""


class NoQuic:
    """Stands for QUIC where the compiled half is missing: each attempt fails."""

    def __init__(self) -> None:
        self._number = 0
        self._changed = threading.Event()

    def begin_connecting(self) -> None:
        """Fails."""
        self._number += 1
        self._changed.set()

    def stop_connecting(self) -> None:
        """Does nothing."""

    def standing(self, known: int, within: float) -> Standing:
        """Waits for another standing than `known`."""
        if self._number == known:
            self._changed.wait(within)
        self._changed.clear()
        reason = f"flash_transport is installed without its compiled half ({PURE_REASON})"
        return self._number, "hopeless", reason, None, None

    def nudge(self) -> None:
        """Ends a wait of `standing`."""
        self._changed.set()

    def close(self) -> None:
        """Does nothing."""


if TYPE_CHECKING or implementation == "native":
    from flash_transport.quic import FlashTransportPolicy

    class QuicSide(FlashTransportPolicy):
        """A `FlashTransportPolicy` whose requests end in `NotBegun` without a connection."""

        _connecting: ClassVar[dict[str, Any]] = {
            "requests_connect": False,
            "attempt_timeout": ATTEMPT_S,
        }

        def begin_connecting(self) -> None:
            """Connects, and tries again after every failure, for at most `connect_timeout`."""
            self._client.begin_connecting()

        def stop_connecting(self) -> None:
            """Makes no further attempt; one that is under way goes on."""
            self._client.stop_connecting()

        def standing(self, known: int, within: float) -> Standing:
            """See `TransportClient.standing`."""
            return self._client.standing(known, within)

        def nudge(self) -> None:
            """Ends a wait of `standing`."""
            self._client.nudge()

        def named(self, observation: dict[str, Any]) -> dict[str, Any]:
            """The observation as it is: the hello says the session."""
            return observation

        def begin(
            self, observation: dict[str, Any], timeout: float | None, first: FirstActions | None
        ) -> tuple[InferenceFuture, Callable[[], dict[str, Any]]]:
            """See `WebsocketSide.begin`."""
            request, future = self._begin(observation, timeout, None, first)
            has_deadline = DEADLINE_KEY in observation

            def take_back() -> dict[str, Any]:
                return _observation_of(request, has_deadline=has_deadline)

            return future, take_back

else:

    class QuicSide:
        """There is none."""


def _observation_of(request: PackedRequest, *, has_deadline: bool) -> dict[str, Any]:
    """The observation of a packed request, without what the client has added to it."""
    observation = request.observation()
    observation.pop(FIRST_ACTIONS_KEY, None)
    if not has_deadline:
        observation.pop(DEADLINE_KEY, None)
    return observation


def quic_side(host: str, port: int, **options: Any) -> QuicSide | NoQuic:
    """QUIC to a server, as far as this installation has it."""
    if implementation == "native":
        return QuicSide(host, port, **options)
    return NoQuic()
