"""Whether a slot that answers is well, by its last answers. Pure: time is passed in.

One observation that a policy cannot take says nothing about the policy. Several failures in a row,
with no success between them, do.
"""

from __future__ import annotations

FAILURES = 5
"""In a row, that make a slot unhealthy."""

SUCCESSES = 3
"""In a row, that make it healthy again."""

TRIAL_AFTER = 30.0
"""s after the last failure in which an unhealthy slot is tried again: a load balancer that sends it
nothing would never see it recover. The next failure ends the trial."""


class Health:
    """The last answers of one slot."""

    def __init__(self) -> None:
        self._failures = 0
        self._successes = 0
        self._failed_at = 0.0
        self._because = ""

    def succeeded(self) -> None:
        """A request was answered with a result."""
        self._successes += 1
        if self._failures < FAILURES or self._successes >= SUCCESSES:
            self._failures = 0

    def failed(self, now: float, reason: str) -> None:
        """The handler failed a request, for no fault of the client; `now` in monotonic s."""
        self._failures += 1
        self._successes = 0
        self._failed_at = now
        self._because = reason

    def replaced(self) -> None:
        """Another handler answers from now on."""
        self._failures = 0

    def unhealthy_because(self, now: float) -> str | None:
        """Why the slot should get no requests; None if it is well."""
        if self._failures < FAILURES or now - self._failed_at >= TRIAL_AFTER:
            return None
        return f"{self._failures} requests in a row failed, the last: {self._because}"
