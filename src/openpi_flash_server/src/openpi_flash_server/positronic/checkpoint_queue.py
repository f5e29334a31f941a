"""Which sessions get their checkpoint now, and which checkpoint is loaded for the others. Pure.

A number of checkpoints is in memory at once. A session whose checkpoint is there gets it at once.
Another one waits until there is room, or until the sessions of one of the others have ended; then
that checkpoint is unloaded first. Checkpoints are loaded one at a time.

The order of calls: `ask`, `left` and `cancel` when they happen, `loaded` or `failed` when a `Load`
has been carried out; after each of them `step` until it returns None.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Admit:
    """A session gets its checkpoint.

    Attributes:
        request: number of its request.
        name: the checkpoint.
    """

    request: int
    name: str


@dataclass(frozen=True, slots=True)
class Load:
    """A checkpoint is to be loaded.

    Attributes:
        name: the checkpoint.
        unload: another one to unload before; None if there is room.
    """

    name: str
    unload: str | None


class CheckpointQueue:
    """The sessions that use or want a checkpoint.

    Args:
        room: how many checkpoints may be in memory.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        # the number of sessions of each checkpoint in memory, in the order of their last use
        self._sessions: OrderedDict[str, int] = OrderedDict()
        self._loading: str | None = None
        self._waiting: dict[int, str] = {}

    @property
    def names(self) -> list[str]:
        """The checkpoints in memory."""
        return list(self._sessions)

    def ask(self, request: int, name: str) -> None:
        """A session wants a checkpoint."""
        self._waiting[request] = name

    def cancel(self, request: int) -> None:
        """A session that waited is gone."""
        self._waiting.pop(request, None)

    def left(self, name: str) -> None:
        """A session that was admitted has ended."""
        self._sessions[name] -= 1

    def discard(self, name: str) -> bool:
        """Forgets a checkpoint that is of no use; returns whether no session uses it."""
        if self._sessions.get(name) != 0:
            return False
        del self._sessions[name]
        return True

    @property
    def is_loading(self) -> bool:
        """Whether a checkpoint is being loaded."""
        return self._loading is not None

    def loaded(self, name: str) -> None:
        """The checkpoint is in memory."""
        self._loading = None
        self._sessions[name] = 0

    def failed(self, name: str) -> list[int]:
        """The checkpoint could not be loaded; returns the requests that wanted it."""
        self._loading = None
        requests = [request for request, wanted in self._waiting.items() if wanted == name]
        for request in requests:
            del self._waiting[request]
        return requests

    def step(self) -> Admit | Load | None:
        """What to do next; None: nothing before something happens."""
        for request, name in self._waiting.items():
            if name in self._sessions:
                del self._waiting[request]
                self._sessions[name] += 1
                self._sessions.move_to_end(name)
                return Admit(request, name)
            if self._loading is None and (load := self._make_room(name)) is not None:
                return load
        return None

    def wants(self, request: int) -> str | None:
        """The checkpoint that a request waits for; None if it does not wait."""
        return self._waiting.get(request)

    def sessions_before(self, request: int) -> int:
        """How many sessions must end before the checkpoint can be loaded; 0 while it is loaded."""
        name = self._waiting.get(request)
        if name is None or self._loading == name or len(self._sessions) < self._room:
            return 0
        return min(self._sessions.values(), default=0)

    def _make_room(self, name: str) -> Load | None:
        unload = None
        if len(self._sessions) >= self._room:
            unload = next((other for other, count in self._sessions.items() if not count), None)
            if unload is None:
                return None
            del self._sessions[unload]
        self._loading = name
        return Load(name, unload)
