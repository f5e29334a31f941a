"""The encoded images of one observation, decoded once, by the thread that comes first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from openpi_flash_models.errors import ObservationError
from openpi_flash_server.slot.answer import Failure
from openpi_flash_server.slot.encoded_images import decode_images, holds_images
from openpi_flash_server.slot.failures import bad_request, internal


@dataclass(frozen=True, slots=True)
class Decoded:
    """An observation without encoded images.

    Attributes:
        observation: with arrays in their place, or why they cannot be decoded.
        ms: how long decoding took.
    """

    observation: Mapping[str, Any] | Failure
    ms: float


class Decoding:
    """Decodes one observation. May be used from any thread.

    Args:
        observation: images may be encoded.
        clock: monotonic seconds.
    """

    def __init__(self, observation: Mapping[str, Any], clock: Callable[[], float]) -> None:
        self._observation = observation
        self._clock = clock
        self._decoded: Decoded | None = None
        self._lock = threading.Lock()

    @property
    def is_begun(self) -> bool:
        """Whether a thread decodes it or has decoded it."""
        return self._decoded is not None or self._lock.locked()

    def result(self) -> Decoded:
        """The decoded observation: decodes it, or waits for the thread that does."""
        with self._lock:
            if self._decoded is None:
                self._decoded = self._decode()
            return self._decoded

    def run_ahead(self) -> None:
        """Decodes the observation, unless another thread does or has."""
        if self._lock.acquire(blocking=False):
            try:
                if self._decoded is None:
                    self._decoded = self._decode()
            finally:
                self._lock.release()

    def _decode(self) -> Decoded:
        if not holds_images(self._observation):
            return Decoded(self._observation, 0.0)
        began = self._clock()
        observation: Mapping[str, Any] | Failure
        try:
            observation = decode_images(self._observation)
        except ObservationError as error:
            observation = bad_request(error)
        # a fault of one request must not end the thread, nor fail the rest of the batch
        except Exception as error:
            observation = internal(error)
        return Decoded(observation, (self._clock() - began) * 1000)
