"""Models in memory, each loaded once, on demand, and kept while somebody uses it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

M = TypeVar("M")


@dataclass(slots=True)
class _Entry(Generic[M]):
    loaded: Future[M] = field(default_factory=Future)
    users: int = 0


class ModelLibrary(Generic[M]):
    """Models by the settings that they are loaded with. May be used from any thread.

    Args:
        end: is given each model that nobody uses any more, maybe twice; None: its memory is freed
            by itself.
    """

    def __init__(self, end: Callable[[M], None] | None = None) -> None:
        self._end = end
        self._entries: dict[Hashable, _Entry[M]] = {}
        self._lock = threading.Lock()

    def acquire(self, settings: Hashable, load: Callable[[], M]) -> M:
        """The model of `settings`, loaded and warm; blocks while anybody loads it.

        Args:
            settings: what it is loaded with.
            load: loads and warms it; called if nobody has it.

        Raises:
            Exception: what `load` raises; the next call tries again.
        """
        with self._lock:
            entry = self._entries.get(settings)
            is_first = entry is None
            if entry is None:
                entry = self._entries[settings] = _Entry()
            entry.users += 1
        if is_first:
            try:
                entry.loaded.set_result(load())
            except BaseException as error:
                with self._lock:
                    del self._entries[settings]
                entry.loaded.set_exception(error)
                raise
        return entry.loaded.result()

    def release(self, settings: Hashable) -> None:
        """Ends one use; a model without any is forgotten, and its memory is freed."""
        with self._lock:
            entry = self._entries[settings]
            entry.users -= 1
            if entry.users:
                return
            del self._entries[settings]
        if self._end is not None:
            self._end(entry.loaded.result())

    def close(self) -> None:
        """Ends every model that is loaded, whoever uses it; one that loads ends with its use."""
        with self._lock:
            entries = list(self._entries.values())
        for entry in entries:
            if self._end is not None and entry.loaded.done():
                self._end(entry.loaded.result())
